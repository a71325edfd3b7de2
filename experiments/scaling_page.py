"""Writes docs/scaling.md from records of dry runs, and makes those records.

usage: python -m experiments.scaling_page                      writes the page from experiments/records/dryrun
       python -m experiments.scaling_page compile=NAME,...     compiles these rows (all: every row without a record) first

Compiling needs the extra `tpu` and no TPU; a row takes minutes.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebm_jax import cli
from ebm_jax.accounting.chips import get_chip
from ebm_jax.dryrun.report import byte_count, count, duration
from ebm_jax.dryrun.topology import rates_of
from ebm_jax.errors import UserError
from ebm_jax.training.record import write_atomically, write_json
from experiments import dryrun

RECORDS, PAGE = Path("experiments/records/dryrun"), Path("docs/scaling.md")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A program on some chips."""

    model: str
    config: str
    topology: str
    slices: int = 1
    program: str = "train"
    assignments: tuple[str, ...] = ()
    like: str = ""
    """Another row, compiled for as many chips in the same mesh: its work at this chip's rates, in place of a compilation."""

    def command(self) -> list[str]:
        """Words of ``experiments.dryrun``."""
        slices = [f"num_slices={self.slices}"] if self.slices > 1 else []
        return [self.config, f"topology={self.topology}", *slices, f"programs={self.program}", *self.assignments]


XL, EBFT, EBD = "configs/ebt/xl.py", "configs/ebft/scale_{}.py", "configs/ebd/serving_7b.py"
PILE_TOKENS, LOCAL = "vocab_size=50277", "train.local_gradients=true"
ROWS: dict[str, Row] = {
    **{
        f"ebt_{size}_{chip}_{chips}": Row(
            model=f"EBT {size}", config=XL, topology=f"{chip}:{shape}",
            assignments=(PILE_TOKENS, f"model.size={size}", *batch, LOCAL),
            like="" if chip == "v5e" else f"ebt_{size}_v5e_{chips}",
        )
        for size, chips, batch, shapes in (
            ("small", 16, ("train.batch_size=16",), {"v5e": "4x4", "v5p": "2x2x4", "v6e": "4x4"}),
            ("medium", 64, ("train.batch_size=64",), {"v5e": "8x8", "v5p": "4x4x4", "v6e": "8x8"}),
            ("large", 256, (), {"v5e": "16x16", "v5p": "4x8x8", "v6e": "16x16"}),
        )
        for chip, shape in shapes.items()
    },
    "ebt_xl_v5e_256": Row(model="EBT xl", config=XL, topology="v5e:16x16", assignments=(PILE_TOKENS,)),
    "ebt_xl_v6e_256": Row(model="EBT xl", config=XL, topology="v6e:16x16", assignments=(PILE_TOKENS, LOCAL)),
    "ebt_xl_v5p_256": Row(model="EBT xl", config=XL, topology="v5p:4x8x8", assignments=(PILE_TOKENS, LOCAL)),
    "ebt_xl_v5e_2x256": Row(
        model="EBT xl", config=XL, topology="v5e:16x16", slices=2,
        assignments=(PILE_TOKENS, "mesh.data=2", "train.batch_size=512"),
    ),
    "ebft_1_5b_v5e_16": Row(model="EBFT 1.5B", config=EBFT.format("1_5b"), topology="v5e:4x4"),
    "ebft_1_5b_v5p_16": Row(
        model="EBFT 1.5B", config=EBFT.format("1_5b"), topology="v5p:2x2x4", assignments=(LOCAL,)
    ),
    "ebft_1_5b_v6e_16": Row(
        model="EBFT 1.5B", config=EBFT.format("1_5b"), topology="v6e:4x4", like="ebft_1_5b_v5e_16"
    ),
    "ebft_7b_v5e_256": Row(
        model="EBFT 7B", config=EBFT.format("7b"), topology="v5e:16x16", assignments=("train.batch_size=256",)
    ),
    "ebft_7b_v6e_256": Row(
        model="EBFT 7B", config=EBFT.format("7b"), topology="v6e:16x16", assignments=("train.batch_size=256",),
        like="ebft_7b_v5e_256",
    ),
    "ebft_7b_v5p_256": Row(
        model="EBFT 7B", config=EBFT.format("7b"), topology="v5p:4x8x8", assignments=("train.batch_size=256", LOCAL)
    ),
    "ebft_7b_v5e_2x256": Row(
        model="EBFT 7B", config=EBFT.format("7b"), topology="v5e:16x16", slices=2,
        assignments=("train.batch_size=512", "mesh.data=2"),
    ),
    "ebd_7b_read_v5e_8": Row(model="EBD 7B, reading prompts", config=EBD, topology="v5e:2x4", program="read"),
    **{
        f"ebd_7b_read_{chip}_8": Row(
            model="EBD 7B, reading prompts", config=EBD, topology=f"{chip}:{shape}", program="read", like="ebd_7b_read_v5e_8"
        )
        for chip, shape in {"v5p": "2x2x2", "v6e": "2x4"}.items()
    },
    "ebd_7b_draw_v5e_8": Row(model="EBD 7B, drawing responses", config=EBD, topology="v5e:2x4", program="draw"),
    "ebd_7b_draw_v6e_8": Row(
        model="EBD 7B, drawing responses", config=EBD, topology="v6e:2x4", program="draw", like="ebd_7b_draw_v5e_8"
    ),
    "ebd_7b_draw_v5p_8": Row(
        model="EBD 7B, drawing responses", config=EBD, topology="v5p:2x2x2", program="draw", like="ebd_7b_draw_v5e_8"
    ),
}  # fmt: skip


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("compile",))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    wanted = [name for name in parts.options.get("compile", "").split(",") if name]
    if wanted == ["all"]:
        wanted = [name for name, row in ROWS.items() if not row.like and not _file(name).is_file()]
    if unknown := [name for name in wanted if name not in ROWS or ROWS[name].like]:
        raise UserError(
            f"compile={unknown[0]}: rows to be compiled are {', '.join(n for n, r in ROWS.items() if not r.like)}"
        )
    for name in wanted:
        (found,) = dryrun.inspections(ROWS[name].command())
        write_json(_file(name), {"command": " ".join(ROWS[name].command()), **found.to_json()})
        print(f"{name}: {found.compile_seconds:.0f} s", flush=True)
    write_atomically(PAGE, page({name: json.loads(_file(name).read_text()) for name in ROWS if _file(name).is_file()}))
    return 0


def page(records: dict[str, dict[str, Any]]) -> str:
    """``docs/scaling.md`` of the rows that have a record, or one of the row that they are like."""
    rows = []
    for name, row in ROWS.items():
        record = records.get(row.like or name)
        if record is not None:
            rows.append(_cells(row, record))
    table = [_line(HEAD), _line(("---",) * 3 + ("---:",) * 9 + ("---",) * 2), *map(_line, rows)]
    commands = [
        f"* {row.model}, {row.topology}{f' x {row.slices}' if row.slices > 1 else ''}:"
        f" `python -m experiments.dryrun {' '.join(row.command())}` ({records[name]['compile_seconds']:.0f} s)"
        for name, row in ROWS.items()
        if name in records
    ]
    return "\n".join([ABOUT, *table, "", "## Commands", "", *commands, ""])


HEAD = (
    "program", "chips", "mesh", "memory", "of a chip's", "compiled FLOPs", "compute", "memory traffic", "links", "network",
    "least time", "efficiency", "waits for", "how",
)  # fmt: skip
ABOUT = """\
# Scaling, on paper and by the compiler

Programs of this repository compiled for TPU slices by the TPU's own compiler, on a machine without TPUs (`experiments.dryrun`).
This page is written by `python -m experiments.scaling_page` from `experiments/records/dryrun`; nothing on it was run.

* **Memory** is what the compiler reserves on one chip: arguments, temporaries, results and code.
* **Compiled FLOPs** are those of the matrix products of one step on one chip, what is computed twice included; loops count as
  often as they run.
* **Compute, memory traffic, links, network** are the seconds that a step's work needs of each at the vendor's peak rates, on
  one chip: its matrix units, its main memory, what it sends to chips of its slice, and to other slices.
* **Least time** is the longest of them: all else is hidden behind it. No step is faster, and a real one takes longer.
* **Efficiency** is weak scaling's: the time of a step that sends nothing over that of this one, if all sending is hidden behind
  work and if none is.
* **Mesh** is the one to use among those that were compiled; *local gradients* are `train.local_gradients=true`: weights are
  gathered and gradients added up once a step, where there is memory for whole ones.
* Rows say whether they were **compiled**, or **extrapolated**: the work of the compiled row with the same mesh, at another
  chip's rates. Memory is then that row's too.

"""


def _cells(row: Row, record: dict[str, Any]) -> tuple[str, ...]:
    chip = get_chip(row.topology.partition(":")[0])
    mesh = " x ".join(f"{axis} {size}" for axis, size in record["mesh"].items() if size > 1)
    slices = f", {row.slices} slices" if row.slices > 1 else ""
    once = ", local gradients" if LOCAL in row.assignments else ""
    head = (row.model, f"{record['chips']} {chip.name}{slices}", mesh + once)
    if record["refused"]:
        return (*head, "too much", *("",) * 8, "", "does not fit")
    rates, memory = rates_of(chip), record["total_bytes"]
    sent = {crosses: sum(t["sent"] for t in record["traffic"] if t["crosses"] is crosses) for crosses in (False, True)}
    work = {
        "compute": (record["flops"], rates.flops),
        "memory": (record["bytes"], rates.memory_rate),
        "links": (sent[False], rates.link_rate),
        "network": (sent[True], rates.network_rate),
    }
    seconds = {name: amount / rate if rate else 0.0 for name, (amount, rate) in work.items()}
    alone, least = max(seconds["compute"], seconds["memory"]), max(seconds.values())
    unhidden = alone + seconds["links"] + seconds["network"]
    return (
        *head,
        byte_count(memory),
        f"{memory / chip.hbm_bytes:.0%}",
        count(record["flops"]),
        *(duration(seconds[name]) if seconds[name] else "0" for name in work),
        duration(least),
        f"{alone / least:.0%} to {alone / unhidden:.0%}",
        max(seconds, key=seconds.__getitem__),
        f"extrapolated from {get_chip(ROWS[row.like].topology.partition(':')[0]).name}" if row.like else "compiled",
    )


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _file(name: str) -> Path:
    return RECORDS / f"{name}.json"


if __name__ == "__main__":
    sys.exit(cli.main(main))
