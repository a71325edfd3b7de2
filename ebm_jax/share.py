"""Work that machines do side by side in shares, each writing files of its own: nothing is sent between them.

A share is every ``count``-th piece from ``index`` on. Whoever reads the folder puts together what all have written, so machines
may come and go, and a call for the whole makes what is still missing.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ebm_jax.errors import UserError

T = TypeVar("T")
_SLURM = ("SLURM_PROCID", "SLURM_NTASKS")


@dataclass(frozen=True)
class Share:
    """The ``index``-th of ``count`` shares."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UserError(f"share={self}: the first number must lie below the second, as in share=0/4")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def whole(self) -> bool:
        """Whether nobody else has a share."""
        return self.count == 1

    def of(self, pieces: Sequence[T]) -> Sequence[T]:
        """The pieces of this share; all shares must be given the same pieces in the same order."""
        return pieces[self.index :: self.count]

    def file(self, name: str) -> str:
        """What this share calls its file ``name``: ``samples.jsonl`` is ``samples.0-of-4.jsonl`` for the first of four."""
        path = Path(name)
        return name if self.whole else f"{path.stem}.{self.index}-of-{self.count}{path.suffix}"


WHOLE = Share()


def parse_share(text: str) -> Share:
    """``0/4``, or ``slurm`` for this task of those that ``srun`` started.

    Raises:
      UserError: it is neither, there is no such share, or Slurm's variables are not set.
    """
    if text == "slurm":
        if absent := [name for name in _SLURM if not os.environ.get(name, "").isdecimal()]:
            raise UserError(f"share=slurm: {absent[0]} is not set; start the command with srun")
        return Share(*(int(os.environ[name]) for name in _SLURM))
    if not (found := re.fullmatch(r"(\d+)/(\d+)", text)):
        raise UserError(f"share={text!r} must be INDEX/COUNT, as in share=0/4, or slurm")
    return Share(int(found[1]), int(found[2]))


def files_of_shares(folder: Path, name: str) -> list[Path]:
    """The files that any share of any count, or the whole, has written as ``name``."""
    path = Path(name)
    ours = re.compile(rf"{re.escape(path.stem)}(\.\d+-of-\d+)?{re.escape(path.suffix)}")
    return sorted(file for file in folder.glob(f"{path.stem}*{path.suffix}") if ours.fullmatch(file.name))
