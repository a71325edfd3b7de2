"""EBFT, SFT and RLVR on questions and Python answers, beside the EBFT paper's figures.

usage: python -m experiments.paper.ebft_qa_code FOLDER [WARM] [out=runs/paper]

  FOLDER   a comparison's folder, as python -m experiments.finetune configs/ebft/qa_code.py makes it
  WARM     one that begins with a model which has seen the data, as that of configs/ebft/qa_code_warm.py

Reads comparison.json, the records of its runs (finetuned.json, anchors.npz, result.json), and the benchmarks that
experiments.evaluate wrote into the runs' folders. Benchmarks that were not asked are left blank, and the commands that ask them
are printed. Writes OUT/ebft_qa_code.md and .svg.
"""

import sys

from ebm_jax import cli
from experiments.paper.published_ebft import QA_CODE
from experiments.paper.task_page import task_page


def main(argv: list[str]) -> int:
    return task_page(argv, str(__doc__), "ebft_qa_code", "Questions and Python answers", QA_CODE)


if __name__ == "__main__":
    sys.exit(cli.main(main))
