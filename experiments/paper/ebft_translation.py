"""EBFT, SFT and RLVR on translations, beside the EBFT paper's figures.

usage: python -m experiments.paper.ebft_translation FOLDER [WARM] [out=runs/paper]

  FOLDER   a comparison's folder, as python -m experiments.finetune configs/ebft/translation.py makes it
  WARM     one that begins with a model which has seen the data, as that of configs/ebft/translation_warm.py

Reads what experiments.paper.ebft_qa_code reads, and writes OUT/ebft_translation.md and .svg. COMET is there where its package
was when the benchmarks were asked.
"""

import sys

from ebm_jax import cli
from experiments.paper.published_ebft import TRANSLATION
from experiments.paper.task_page import task_page


def main(argv: list[str]) -> int:
    return task_page(argv, str(__doc__), "ebft_translation", "Translations", TRANSLATION)


if __name__ == "__main__":
    sys.exit(cli.main(main))
