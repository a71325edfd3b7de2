"""What runs say about themselves, made from their record files alone: a page with pictures, and a table for a terminal.

::

    write_report([Path("runs/demo/transformer"), Path("runs/demo/ebt_s2")], Path("report.html"))
    print(summary_table([Path("runs/demo/transformer"), Path("runs/demo/ebt_s2")]))

The page is one self-contained file. Each of its sections is a module with ``section(runs) -> str``, empty where no run
has what it is about::

    headline     cards and the table of sizes, costs and results      loss_curves  training, over tokens and FLOPs
    inner_steps  bits/byte against inner steps                        thinking     what more steps and candidates gain
    energy_text  the energy of every byte of a text                   provenance   commands, versions, differing settings

Beneath them: ``runs`` (the records of one run and what follows from them), ``numbers`` (figures in words), ``markup``
(HTML), ``figures`` (matplotlib to themed SVG), ``theme`` (colours and the style sheet), ``page`` (all of it together).
"""

from ebm_jax.reporting.headline import summary_table
from ebm_jax.reporting.page import write_report
from ebm_jax.reporting.runs import Run, read_runs

__all__ = ["Run", "read_runs", "summary_table", "write_report"]
