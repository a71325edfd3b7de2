"""The scripts run by tests, with a gcloud that only writes down how it was called and plays what a test tells it."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "tpu_scripts"

GCLOUD = """\
#!/usr/bin/env bash
# Writes its arguments down, and plays the next answer of answers/KIND: the first line, which then goes, unless it is the last.
cd "$(dirname "$0")"
printf '%s\\n' "gcloud $*" >>calls
if [[ $4 == scp ]]; then tar -tzf "$5" >shipped; fi
case "$*" in
    *"queued-resources describe"*) kind=queue ;;
    *"tpu-vm describe"*) kind=node ;;
    *"worker.sh status"*) kind=status ;;
    *"worker.sh progress"*) kind=progress ;;
    *"storage ls"*) kind=done ;;
    *" create "*) kind=create ;;
    *) kind=other ;;
esac
[[ -f answers/$kind ]] || exit 0
read -r line <answers/$kind
if (($(wc -l <answers/$kind) > 1)); then sed -i 1d answers/$kind; fi
if [[ $line == error:* ]]; then
    echo "${line#error:}" >&2
    exit 1
fi
tr '|' '\\n' <<<"$line"
"""


@dataclass(frozen=True)
class Done:
    """How a script ended."""

    code: int
    out: str
    err: str


class Scripts:
    """A folder with that gcloud first on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "answers").mkdir()
        (folder / "gcloud").write_text(GCLOUD)
        (folder / "gcloud").chmod(0o755)

    def answers(self, **kinds: list[str]) -> None:
        """What gcloud answers to each kind of question, one after the other; the last one for ever."""
        for kind, lines in kinds.items():
            (self.folder / "answers" / kind).write_text("".join(f"{line}\n" for line in lines))

    def run(self, script: str, *arguments: str, env: Mapping[str, str] | None = None) -> Done:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TPU_")}
        clean |= {"PATH": f"{self.folder}:{os.environ['PATH']}", "TMPDIR": str(self.folder), **(env or {})}
        done = subprocess.run(
            ["bash", str(FOLDER / script), *arguments],
            cwd=FOLDER.parent,
            env=clean,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []
