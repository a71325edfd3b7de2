"""What a task leaves in its folder while it runs.

==================  =====================================================================================
``settings.json``   task, model, sampling, seed and a digest of the questions: a rerun must agree
``samples.jsonl``   every sample, one a line, written as soon as its batch is done
``grades.jsonl``    every grade; deleting the file, or ``regrade``, has the same samples graded again
``result.json``     the figures with their intervals, counts, times and versions
==================  =====================================================================================

A share of the questions adds its samples to ``samples.0-of-4.jsonl``, and no grades.

Lines are only ever added. A line that a killed run left half-written is dropped; any other line that does not parse is a
UserError with its number.
"""

import dataclasses
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Completion, Example, Grade, LogLikelihood, Sample
from ebm_jax.share import WHOLE, Share, files_of_shares

SETTINGS = "settings.json"
SAMPLES = "samples.jsonl"
GRADES = "grades.jsonl"
RESULT = "result.json"
Key = tuple[str, int]
"""An example's id and the number of its sample."""


class SampleStore:
    """The folder of one task: reads what is there, adds what is new; a share adds samples to a file of its own."""

    def __init__(self, folder: Path, share: Share = WHOLE) -> None:
        self.folder = folder
        self._samples = share.file(SAMPLES)
        folder.mkdir(parents=True, exist_ok=True)

    def agree(self, settings: Mapping[str, Any]) -> None:
        """Keeps the settings of a new folder; UserError where samples were made with others."""
        path = self.folder / SETTINGS
        plain = json.loads(json.dumps(settings))
        if path.exists() and files_of_shares(self.folder, SAMPLES):
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                raise UserError(f"{path} is damaged: delete the folder, or name another one") from None
            differing = sorted(key for key in plain.keys() | kept.keys() if plain.get(key) != kept.get(key))
            if differing:
                listed = "; ".join(f"{key} was {kept.get(key)!r} and is {plain.get(key)!r}" for key in differing)
                raise UserError(
                    f"{self.folder} holds samples made otherwise: {listed}. Name another folder or delete it"
                )
        write_whole(path, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")

    def samples(self) -> dict[Key, Sample]:
        """Every sample that is there."""
        found = {}
        files = files_of_shares(self.folder, SAMPLES)
        for where, row in (line for file in files for line in self._lines(file.name)):
            try:
                likelihood = row.get("likelihood")
                sample = Sample(
                    str(row["id"]),
                    int(row["sample"]),
                    tuple(Completion(**turn) for turn in row.get("turns", ())),
                    LogLikelihood(**likelihood) if likelihood else None,
                    str(row.get("skipped", "")),
                )
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{where}: not a sample ({error!r}); mend or delete that line") from None
            found[sample.example, sample.index] = sample
        return found

    def grades(self, judge: str) -> dict[Key, Grade]:
        """Every grade that is there and was given by this judge; a later one of the same sample counts."""
        found = {}
        for where, row in self._lines(GRADES):
            try:
                key, grade = (str(row["id"]), int(row["sample"])), Grade(row["score"], row.get("info", {}))
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{where}: not a grade ({error!r}); mend or delete that line") from None
            if row.get("judge", "") == judge and grade.score is not None:
                found[key] = grade
        return found

    def forget_grades(self) -> None:
        """Has everything graded again."""
        (self.folder / GRADES).unlink(missing_ok=True)

    def add_samples(self, made: Iterable[tuple[Example, Sample]]) -> None:
        """Samples of a batch, with the prompts they answer."""
        rows = []
        for example, sample in made:
            row: dict[str, Any] = {"id": sample.example, "sample": sample.index, "prompt": example.prompt.as_json()}
            if sample.likelihood is not None:
                row |= {"continuation": example.reference, "likelihood": dataclasses.asdict(sample.likelihood)}
            else:
                turns = [dataclasses.asdict(turn) for turn in sample.turns]
                row["turns"] = [{k: v for k, v in turn.items() if k != "token_log_probs"} for turn in turns]
            if sample.skipped:
                row["skipped"] = sample.skipped
            rows.append(row)
        self._append(self._samples, rows)

    def add_grades(self, given: Iterable[tuple[Sample, Grade]], judge: str) -> None:
        """Grades of samples."""
        rows = []
        for sample, grade in given:
            row = {"id": sample.example, "sample": sample.index, "score": grade.score, "info": dict(grade.info)}
            rows.append(row | ({"judge": judge} if judge else {}))
        self._append(GRADES, rows)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Replaces ``result.json``."""
        write_whole(self.folder / RESULT, json.dumps(result, indent=2, ensure_ascii=False) + "\n")

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        path = self.folder / name
        self._drop_half_line(path)
        # Surrogates (bytes that are no UTF-8) are written as escapes, so that they can be read back.
        text = "".join(json.dumps(row, ensure_ascii=not _is_text(row)) + "\n" for row in rows)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _lines(self, name: str) -> Iterable[tuple[str, dict[str, Any]]]:
        path = self.folder / name
        if not path.exists():
            return
        if ours := name in (self._samples, GRADES):
            self._drop_half_line(path)
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not ours and not line.endswith("\n"):
                    return  # another share is writing it
                where = f"{path}: line {number}"
                try:
                    row = json.loads(line)
                except ValueError:
                    raise UserError(f"{where}: not JSON; mend or delete that line") from None
                if not isinstance(row, dict):
                    raise UserError(f"{where}: not an object; mend or delete that line")
                yield where, row

    @staticmethod
    def _drop_half_line(path: Path) -> None:
        if not path.exists():
            return
        with path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            place = size
            while place > 0:
                start = max(0, place - 65536)
                file.seek(start)
                if (end := file.read(place - start).rfind(b"\n")) >= 0:
                    place = start + end + 1
                    break
                place = start
            if place < size:
                file.truncate(place)


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old or the new one, never half of it."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")  # several machines may write it
    try:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _is_text(row: Any) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
