"""Makes a report on trained runs: one HTML file with pictures, from the files in their folders alone.

usage: python -m experiments.report RUN_DIR [RUN_DIR ...] [out=FILE.html]

  RUN_DIR         folders of runs, in the order in which they shall appear; evaluate them first (experiments.evaluate)
  out=FILE.html   where the report goes (default: report.html in the first run's folder)

Prints the table of sizes, costs and results, and where the report is.
"""

import sys
from pathlib import Path

from ebm_jax import cli
from ebm_jax.errors import UserError
from ebm_jax.reporting import summary_table, write_report


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("out",))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if parts.overrides:
        raise UserError(f"{parts.overrides[0]}: a report has only the option out=FILE.html")
    if not parts.positionals:
        raise UserError("no run given: python -m experiments.report RUN_DIR [RUN_DIR ...] [out=FILE.html]")
    folders = [Path(folder) for folder in parts.positionals]
    out = write_report(folders, Path(parts.options.get("out") or folders[0] / "report.html"))
    print(summary_table(folders))
    print(f"report: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(main))
