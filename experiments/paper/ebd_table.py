"""Ways of decoding on benchmarks, the published figures beside ours, with what a prompt cost.

usage: python -m experiments.paper.ebd_table FOLDER [FOLDER ...] [sibling=FOLDER] [out=runs/paper]

  FOLDER    folders of studies, as python -m experiments.decode configs/ebd/qwen3_8b.py makes them
  sibling   a study of the same benchmarks and questions whose model was instructed; of its methods the first counts

Reads study.json and decoded.json. Behaviour similarity is the Pearson correlation, over questions, of a method's scores with
the sibling's, in the mean over benchmarks: our reading, for the paper's definition could not be obtained. Writes
OUT/ebd_table.md.
"""

import sys
from pathlib import Path

import numpy as np

from ebm_jax import cli
from ebm_jax.reporting.decoding import Decoding, Study, read_study
from ebm_jax.reporting.numbers import MISSING
from experiments.paper.command import OUT, arguments, deliver
from experiments.paper.published_ebd import OTHER, published
from experiments.paper.tables import section


def main(argv: list[str]) -> int:
    missing = "no study given: name the folders of studies, as runs/ebd_qwen3_8b"
    parts = arguments(argv, str(__doc__), missing, ["sibling"])
    if parts is None:
        return 0
    studies = [read_study(folder) for folder in parts.positionals]
    sibling = read_study(parts.options["sibling"]).methods[0] if "sibling" in parts.options else None
    told = [[name, figure.shown()] for name, figure in OTHER.items()]
    blocks = [_table(study, sibling) for study in studies]
    blocks.append(section("Told of the paper besides", ["", "published"], told))
    deliver(
        Path(parts.options.get("out") or OUT),
        "ebd_table",
        "Energy-Based Decoding and its peers on benchmarks",
        blocks,
        {},
    )
    return 0


def _table(study: Study, sibling: Decoding | None) -> str:
    tasks = list(study.config["tasks"])
    theirs = published(str(study.config["model"]))
    names = list(dict.fromkeys([*(method.name for method in study.methods), *theirs]))
    ours = {method.name: method for method in study.methods}
    rows = []
    for name in names:
        known, method = theirs.get(name, {}), ours.get(name)
        here = lambda task, method=method: (method.headline(task) if method else "") or MISSING
        cells = [f"{here(task)} / {known[task].shown() if task in known else MISSING}" for task in tasks]
        rows.append([name, *cells, *_about(method), similarity(method, sibling)])
    note = "Here / published. Valid answers, length, tokens and reward calls of a prompt are means over all benchmarks."
    head = ["", *tasks, "valid", "length", "tokens", "reward calls", "similarity"]
    return section(study.config["name"], head, rows, note)


def _about(method: Decoding | None) -> list[str]:
    if method is None:
        return [MISSING] * 4
    spent = method.spent()
    costs = [f"{spent[key]:.0f}" if spent else MISSING for key in ("tokens", "reward_calls")]
    return [method.about("valid") or MISSING, method.about("length") or MISSING, *costs]


def similarity(method: Decoding | None, sibling: Decoding | None) -> str:
    """Pearson's correlation of the scores of questions, in the mean over benchmarks where it exists."""
    found: list[float] = []
    if method is None or sibling is None:
        return MISSING
    for task in method.tasks:
        ours, theirs = method.scores(task), sibling.scores(task)
        both = sorted(ours.keys() & theirs.keys())
        pair = np.array([[scores[key] for key in both] for scores in (ours, theirs)])
        if len(both) > 1 and (pair.std(axis=1) > 0).all():
            found.append(np.corrcoef(pair)[0, 1])
    return f"{np.mean(found):.3f}" if found else MISSING


if __name__ == "__main__":
    sys.exit(cli.main(main))
