"""The report: whole from whole records, and from what little an unfinished or plain run leaves."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ebm_jax import cli
from ebm_jax.errors import UserError
from ebm_jax.reporting import read_runs, summary_table, write_report
from ebm_jax.reporting.page import page
from experiments import report
from tests.reporting import synthetic

pytest.importorskip("matplotlib")

VOID = {"meta", "br"}


class Outline(HTMLParser):
    """Checks that elements nest, and gathers identifiers, references and plain text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.targets: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, name, attributes):
        self.tags.add(name)
        self.ids += [value for key, value in attributes if key == "id"]
        self.targets += [value for key, value in attributes if key in ("href", "src", "xlink:href")]
        for _, value in attributes:
            self.targets += re.findall(r"url\(([^)]*)\)", value or "")
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.handle_starttag(name, attributes)
        if name not in VOID:
            self.handle_endtag(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.words.append(data)


def read(html: str) -> Outline:
    outline = Outline()
    outline.feed(html)
    assert outline.open == []
    return outline


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return synthetic.write_all(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def html(folders: list[Path]) -> str:
    return page(read_runs(folders))


def test_the_page_is_whole_and_stands_alone(html: str):
    outline = read(html)
    assert not outline.tags & {"script", "link", "img", "iframe", "object"}
    assert "http" not in html and "@import" not in html and "<style" in html
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.targets and all(target.startswith("#") for target in outline.targets)
    assert {target[1:] for target in outline.targets} <= set(outline.ids)


def test_every_section_and_caption_is_there(html: str):
    outline = read(html)
    assert [x for x in outline.ids if x in ("training", "steps", "thinking", "energy", "made")] == [
        *("training", "steps", "thinking", "energy", "made")
    ]
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert len(captions) == html.count("<figure>") >= 6
    assert all(caption.endswith(".") for caption in captions)
    for words in (
        "264\u202f960",
        "198\u202f000",
        "3.551",
        "3.824",
        "29.7\u00a0TFLOP",
        "×\u00a04.85",
        "2 min 34",
        "G = 5",
    ):
        assert words.replace(" ", "\u00a0", 1) in html or words in html


def test_no_stand_in_colour_or_font_is_left(html: str):
    assert not re.search(r"#0[1-5][0-9a-f]{2}0[1-5]\b", html.partition("</style>")[2])
    assert "DejaVu" not in html.partition("</style>")[2]


def test_equal_records_make_equal_pages(folders: list[Path], html: str):
    assert page(read_runs(folders)) == html


def test_the_headline_speaks_of_training_and_text(html: str):
    words = "".join(read(html).words)
    assert "Energy-Based Transformers beside Transformer++" in words
    assert "Three models were trained on the source code of the Python standard library with a CPU of 2 cores" in words
    assert "each model saw 3.69\u00a0M tokens, 0.38 times the split" in words


def test_a_record_cannot_write_markup(tmp_path: Path):
    folder = synthetic.write_lm(tmp_path / "a<b>&")
    evaluation = json.loads((folder / "evaluation.json").read_text())
    evaluation["data"]["source"] = "text:<script>alert(1)</script>"
    evaluation["splits"]['"><i>'] = evaluation["splits"].pop("topics")
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    outline = read(page(read_runs([folder])))
    assert not outline.tags & {"script", "i", "b>"} - {"i"} and "<script>alert(1)</script>" in "".join(outline.words)


def test_a_language_model_alone_has_no_thinking(tmp_path: Path):
    outline = read(page(read_runs([synthetic.write_lm(tmp_path / "lm")])))
    assert {"training", "made"} <= set(outline.ids) and not {"steps", "thinking", "energy"} & set(outline.ids)
    assert "Transformer++: a report" in "".join(outline.words)


@pytest.mark.parametrize("left_out", ["splits", "verification", "snippet", "flops", "data", "step", "name", "kind"])
def test_any_part_of_an_evaluation_may_be_absent(tmp_path: Path, left_out: str):
    folder = synthetic.write_ebt(tmp_path / "s2", 2)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    del evaluation[left_out]
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    outline = read(page(read_runs([folder])))
    section = {"splits": "steps", "verification": "thinking"}.get(left_out)
    assert section not in outline.ids and "training" in outline.ids
    assert "EBT S2" in summary_table([folder])


@pytest.mark.parametrize("left", [["run.json"], ["run.json", "metrics.jsonl"], ["evaluation.json"]])
def test_an_unfinished_run_reports_what_it_has(tmp_path: Path, left: list[str]):
    folder = synthetic.write_ebt(tmp_path / "s1", 1)
    for path in folder.iterdir():
        if path.name not in left:
            path.unlink()
    if "metrics.jsonl" in left:
        metrics = folder / "metrics.jsonl"
        metrics.write_bytes(metrics.read_bytes()[:-30])
    outline = read(page(read_runs([folder])))
    assert ("training" in outline.ids) == ("metrics.jsonl" in left)
    assert ("steps" in outline.ids) == ("evaluation.json" in left)


def test_a_curve_that_diverges_is_shown_until_it_does(tmp_path: Path):
    folder = synthetic.write_ebt(tmp_path / "s2", 2)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    for name in ("bits_per_byte", "perplexity", "nll"):
        evaluation["splits"]["validation"][name][5:] = [float("inf"), float("nan"), 1.0]
    evaluation["snippet"]["energy"][0][3] = float("nan")
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    html = page(read_runs([folder]))
    assert "nan" not in "".join(read(html).words) and read_runs([folder])[0].split_curve("validation", "nll")[4:] == [
        pytest.approx(evaluation["splits"]["validation"]["nll"][4])
    ]


def test_a_run_that_learned_nothing_is_drawn_too(tmp_path: Path):
    folder = synthetic.write_ebt(tmp_path / "s2", 2)
    lines = [{"step": s, "nll": 5.5, "nll_first": 5.6, "energy_gap": 0.0, "tokens": 9.0} for s in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "training" in read(page(read_runs([folder]))).ids


def test_command(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "new" / "report.html"
    assert cli.main(report.main, [*map(str, folders), f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert f"report: {out}" in said and "byte bigram" in said
    read(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no run given"),
        (["missing"], "missing: no such folder"),
        (["."], "holds no run"),
        ([".", "steps=3"], "only the option out="),
        (["RUN", "out=."], "is a folder"),
    ],
)
def test_mistakes_are_named(argv, message, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    run = str(synthetic.write_lm(tmp_path / "lm"))
    assert cli.main(report.main, [run if word == "RUN" else word for word in argv]) == 2
    assert message in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]):
    assert report.main(["--help"]) == 0
    assert "usage: python -m experiments.report" in capsys.readouterr().out


def test_without_matplotlib_the_extra_is_named(folders: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r'pip install "ebm_jax\[log\]"'):
        write_report(folders, tmp_path / "report.html")
    assert "Transformer++" in summary_table(folders)


def test_reporting_needs_no_training_code():
    program = "import sys, ebm_jax.reporting; print(*sorted(m for m in sys.modules if m.startswith('ebm_jax.')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name.startswith(("ebm_jax.training", "ebm_jax.evals"))]
