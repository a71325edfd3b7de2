"""EBFT and SFT on Python files, beside the EBFT paper's figures; there is no RLVR where nothing can be verified.

usage: python -m experiments.paper.ebft_raw_code FOLDER [WARM] [out=runs/paper]

  FOLDER   a comparison's folder, as python -m experiments.finetune configs/ebft/raw_code.py makes it
  WARM     one that begins with a model which has seen the data, as that of configs/ebft/raw_code_warm.py

Reads what experiments.paper.ebft_qa_code reads, and writes OUT/ebft_raw_code.md and .svg.
"""

import sys

from ebm_jax import cli
from experiments.paper.published_ebft import RAW_CODE
from experiments.paper.task_page import task_page


def main(argv: list[str]) -> int:
    return task_page(argv, str(__doc__), "ebft_raw_code", "Python files", RAW_CODE)


if __name__ == "__main__":
    sys.exit(cli.main(main))
