"""Importing the package is light: no optional package is loaded and no JAX backend starts.

A module that is about an optional package may load it at its top; then no other module may load that one at its own.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

FORBIDDEN = ("tensorflow", "torch", "grain", "tensorflow_datasets", "wandb", "tensorboardX", "matplotlib", "pyarrow")
FORBIDDEN += ("tokenizers", "sentencepiece", "safetensors", "datasets", "transformers")

PROGRAM = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
import jax
from jax._src import xla_bridge
tops = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"loaded": sorted(tops & set(json.loads(sys.argv[2]))), "backends": list(xla_bridge._backends)}))
"""


def imports(modules: list[str]) -> dict[str, list[str]]:
    """What a fresh interpreter has loaded after importing these modules."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(modules), json.dumps(FORBIDDEN)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def is_about_an_optional_package(path: Path) -> bool:
    """Whether loading the file loads an optional package: an import or ``require`` outside every function."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        # `require("grain", ...)` imports or says which extra to install.
        names += [str(a.value) for a in node.args if isinstance(a, ast.Constant)] if isinstance(node, ast.Call) else []
        if any(name.partition(".")[0] in FORBIDDEN for name in names):
            return True
        pending += [c for c in ast.iter_child_nodes(node) if not isinstance(c, ast.FunctionDef | ast.AsyncFunctionDef)]
    return False


def core_modules() -> list[str]:
    """Every module of the package but those."""
    paths = [path for path in sorted((ROOT / "ebm_jax").rglob("*.py")) if not is_about_an_optional_package(path)]
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in paths]
    return [".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts]


def test_the_package_alone_is_light():
    assert imports(["ebm_jax"]) == {"loaded": [], "backends": []}


def test_no_module_loads_an_optional_package_or_starts_a_backend():
    assert imports(core_modules()) == {"loaded": [], "backends": []}
