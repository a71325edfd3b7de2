"""The house rules that a reader may rely on, checked on the syntax trees: nothing is imported here."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ebm_jax"

LAYERS = (
    (
        "types",
        "errors",
        "weighted",
        "rng",
        "languages",
        "pieces",
        "precision",
        "serialize",
        "overrides",
        "describe",
        "records",
        "algorithm",
        "huge_pages",
        "share",
    ),
    ("parallel", "accounting"),
    ("nn", "optim", "data", "grading"),
    ("losses", "energy", "models"),
    ("decoding", "interop"),
    ("algorithms",),
    ("training", "evals", "reporting"),
    (
        "experiment",
        "evaluation",
        "generation",
        "language_model",
        "reward",
        "study",
        "comparison",
        "decoders",
        "decoding_study",
        "gradient_noise",
        "cli",
        "sweeps",
        "dryrun",
    ),
)
LAYER_OF = {name: layer for layer, names in enumerate(LAYERS) for name in names}
PLAIN_VALUES = 0
"""Modules of this layer may import each other, and so may those that compose everything."""
COMPOSITION = len(LAYERS) - 1

CEILING = 400
VAGUE_NAMES = re.compile(r"^(utils?|helpers?|common|misc)$|_(lib|utils?|helpers?)$")
FORBIDDEN_TOPS = {"configs", "experiments", "tests", "torch", "tensorflow", "wandb"}
TORCH_USERS = {"interop"}


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything the file imports, at any depth of its syntax tree."""
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            # `from ebm_jax import optim` names the module only among the imported names.
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "ebm_jax" else [module]
            for name in names:
                yield node.lineno, name


def unit(dotted: str) -> str | None:
    """The top-level module or package of ``ebm_jax`` that a dotted name belongs to."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "ebm_jax" and len(parts) > 1 and not parts[1].startswith("__") else None


def violations(path: Path) -> list[str]:
    """What this file of ``ebm_jax`` imports although the layers forbid it."""
    where = path.relative_to(ROOT)
    own = where.with_suffix("").parts[1]
    found = []
    for line, name in imported_modules(path):
        top = name.split(".")[0]
        if top in FORBIDDEN_TOPS and not (top == "torch" and own in TORCH_USERS):
            found.append(f"{where}:{line} imports {name}, which nothing in ebm_jax may")
        other = unit(name)
        if other is None or other == own or own == "__init__":
            continue
        if other not in LAYER_OF:
            found.append(f"{where}:{line} imports {name}, which has no layer")
            continue
        mine, theirs = LAYER_OF[own], LAYER_OF[other]
        if theirs > mine:
            found.append(f"{where}:{line} (layer {mine}) imports {name} (layer {theirs}), which is above it")
        elif theirs == mine and mine not in (PLAIN_VALUES, COMPOSITION):
            found.append(f"{where}:{line} imports {name}, a sibling of its own layer {mine}")
    return found


def package_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def project_files() -> list[Path]:
    folders = ("ebm_jax", "experiments", "configs", "tests", "tpu_scripts")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_every_module_has_a_layer():
    names = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in package_files()} - {"__init__"}
    assert names <= LAYER_OF.keys(), f"give these a layer in LAYERS: {sorted(names - LAYER_OF.keys())}"


@pytest.mark.parametrize("path", package_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path):
    if path.relative_to(PACKAGE).with_suffix("").parts[0] in LAYER_OF or path.name == "__init__.py":
        assert violations(path) == []


def test_a_violation_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    folder = tmp_path / "ebm_jax" / "nn"
    folder.mkdir(parents=True)
    cases = {
        "from ebm_jax import optim": "sibling",
        "import ebm_jax.training.loop": "above it",
        "from ..losses import kl": "above it",
        "def f():\n    from experiments import pretrain": "nothing in ebm_jax may",
        "from ebm_jax.mystery import x": "no layer",
    }
    for code, reason in cases.items():
        (folder / "x.py").write_text(code)
        (found,) = violations(folder / "x.py")
        assert reason in found
    (folder / "x.py").write_text("from ebm_jax.types import Array\nfrom .attention import attend\nimport jax\n")
    assert violations(folder / "x.py") == []


def test_no_file_is_too_long():
    long = {str(p.relative_to(ROOT)): n for p in project_files() if (n := len(p.read_text().splitlines())) > CEILING}
    assert not long, f"over {CEILING} lines: {long}"


def test_every_name_says_something():
    assert not [str(path.relative_to(ROOT)) for path in project_files() if VAGUE_NAMES.search(path.stem)]
