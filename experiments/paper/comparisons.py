"""What the scripts of the EBFT paper share: comparisons in, benchmarks that were asked of their runs, the figures of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ebm_jax.errors import UserError
from ebm_jax.records import BASE, RESULT, read_result
from ebm_jax.reporting.finetuning import Compared, Method, read_comparison
from ebm_jax.reporting.intervals import Estimate, mean
from ebm_jax.reporting.numbers import MISSING, enumeration, plural, si
from ebm_jax.reporting.paired import Difference
from experiments.paper.command import OUT, arguments
from experiments.paper.pictures import LINES
from experiments.paper.published_ebft import EBFT, GPU_HOURS, RLVR, SFT, Measure
from experiments.paper.tables import number_of, section

_COLOURS = {BASE: "#4a4a4a", EBFT: LINES[0], SFT: LINES[1], RLVR: LINES[2]}


@dataclass(frozen=True)
class Request:
    """What a user asked a script for."""

    compared: list[Compared]
    folders: list[Path]
    out: Path
    options: dict[str, str]


def request(argv: list[str], about: str, config: str, options: Sequence[str] = ()) -> Request | None:
    """The comparisons and options that a command line names; None, and ``about`` on the terminal, for ``--help``.

    Raises ``UserError`` where no folder is named; ``config`` is what makes one.
    """
    missing = f"no comparison given: name the folder that python -m experiments.finetune {config} fills"
    parts = arguments(argv, about, missing, options)
    if parts is None:
        return None
    folders = [Path(name) for name in parts.positionals]
    return Request([read_comparison(f) for f in folders], folders, Path(parts.options.get("out") or OUT), parts.options)


def benchmark(folder: Path, task: str, figure: str, greedy: bool) -> float | None:
    """A figure of a benchmark that was asked of a run, or of the base model, into a folder inside its own; None: it was not."""
    for file in sorted(folder.glob(f"*/*/{RESULT}")):
        record = read_result(file.parent)
        sampled = (record.get("sampling") or {}).get("temperature", 0.0) > 0
        found = record.get("metrics", {}).get(figure)
        if record.get("task") == task and sampled != greedy and found is not None:
            return float(found["value"])
    return None


def estimate(method: Method, measure: Measure) -> Estimate | None:
    """A measure of a method over its seeds; None where one of its benchmarks, or all seeds, are missing."""
    if not measure.tasks:
        return method.mean(*measure.figure)
    seeds = []
    for folder in method.folders:
        values = [benchmark(folder, task, measure.figure[0], measure.greedy) for task in measure.tasks]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            seeds.append(sum(known) / len(known))
    return mean(seeds) if seeds else None


def measures_table(compared: Compared, measures: Sequence[Measure], start: str = BASE) -> str:
    """Our figures and, below each, the published ones; ``start`` is what the model is called that all begin with."""
    rows = []
    for measure in measures:
        found = [estimate(m, measure) for m in compared.methods]
        theirs = measure.published if start == BASE else {}
        if theirs or any(found):
            rows.append([measure.title, *(number_of(one, measure.digits) for one in found)])
        if theirs:
            given = [theirs.get(m.name) for m in compared.methods]
            rows.append(["– published", *(p.shown(measure.digits) if p else MISSING for p in given)])
    rows += _own_tasks(compared)
    head = ["", *(f"{start if m.name == BASE else m.name}{_seeds(m)}" for m in compared.methods)]
    return section(compared.name, head, rows)


def missing(compared: Compared, measures: Sequence[Measure]) -> str:
    """The commands that make what the table lacks."""
    lacking: dict[tuple[bool, bool, tuple[str, ...]], list[Path]] = {}
    for m in compared.methods:
        for folder in m.folders:
            for greedy in (True, False):
                wanted = [(task, x.figure[0]) for x in measures if x.greedy == greedy for task in x.tasks]
                tasks = dict.fromkeys(t for t, figure in wanted if benchmark(folder, t, figure, greedy) is None)
                if tasks:
                    lacking.setdefault((m.name == BASE, greedy, tuple(tasks)), []).append(folder)
    if not lacking:
        return ""
    commands = [_command(compared, *key, folders) for key, folders in lacking.items()]
    return "\n".join(["Blanks are filled by", "", *(f"    {command}" for command in commands)])


def costs_table(compared: Compared) -> str:
    """Work and time of a run, and what the paper spent on an epoch."""
    rows = []
    for m in compared.trained:
        seconds = [s for folder in m.folders for s in _seconds(folder)]
        spent = f"{sum(seconds) / len(seconds) / 3600:.2f} h" if seconds else MISSING
        hours = GPU_HOURS.get(m.name)
        work = si(m.mean("flops").value, "FLOP")
        rows.append([m.name, str(m.records[0]["step"]), work, spent, f"{hours:g} h" if hours else MISSING])
    head = ["", "steps", "work of a run", "its last launch", "published, hours of an H100 for an epoch"]
    return section(f"{compared.name}: cost", head, rows) if rows else ""


def claims(compared: Compared, start: str = BASE, measures: Sequence[Measure] = ()) -> str:
    """What the paper says of EBFT and RLVR, and whether the intervals of this comparison say so; of benchmarks the means."""
    names = {m.name for m in compared.methods}
    lengths = compared.lengths
    by_length = lambda one, two: [compared.matching_difference(one, two, n) for n in lengths]
    rows = []

    def held(claim: str, one: str, two: str, sign: int, differences: list[Difference]) -> None:
        if {one, two} <= names:
            agree = sum(d.sign == sign for d in differences)
            against = sum(d.sign == -sign for d in differences)
            rows.append([claim, verdict(agree, against, len(differences))])

    for other in (BASE, SFT, RLVR):
        called = f"the {start} model's" if other == BASE else f"{other.upper()}'s"
        if {EBFT, other} <= names:
            held(
                f"EBFT's feature-matching loss is below {called} at every length",
                EBFT,
                other,
                -1,
                by_length(EBFT, other),
            )
            held(f"EBFT's cross-entropy is below {called}", EBFT, other, -1, [compared.nll_difference(EBFT, other)])
    if {RLVR, BASE} <= names:
        held(f"RLVR raises the feature-matching loss of the {start} model", RLVR, BASE, 1, by_length(RLVR, BASE))
        held("RLVR raises its cross-entropy", RLVR, BASE, 1, [compared.nll_difference(RLVR, BASE)])
    for measure in (one for one in measures if one.tasks and {EBFT, RLVR} <= names):
        ours, theirs = (estimate(compared.method(name), measure) for name in (EBFT, RLVR))
        if ours and theirs:
            told = f"{'yes' if ours.value >= theirs.value else 'no'}, {ours.value:.3f} and {theirs.value:.3f}"
            rows.append([f"EBFT is not below RLVR: {measure.title}", told])
    return section(f"{compared.name}: claims of the paper", ["", "here"], rows) if rows else ""


def verdict(agree: int, against: int, of: int) -> str:
    """In how many cases an interval says so."""
    if agree == of:
        return "yes" if of == 1 else f"yes, at all {of}"
    if against == of:
        return "no, the opposite" if of == 1 else f"no, the opposite at all {of}"
    if of == 1:
        return "not beyond doubt"
    return f"at {agree} of {of}" + (f", the opposite at {against}" if against else "")


def notes(compared: Sequence[Compared]) -> str:
    """What a reader of the tables must know."""
    told = ["In brackets 95 % t intervals over seeds (none for a single seed)."]
    if left := [folder for one in compared for folder in one.left_out]:
        told.append(f"Left out, for their records are of another evaluation: {enumeration(left)}.")
    return " ".join(told)


def colour(name: str, names: Sequence[str]) -> str:
    """A method's colour: the same everywhere for those of the paper."""
    others = [n for n in names if n not in _COLOURS]
    return _COLOURS.get(name) or LINES[(3 + others.index(name)) % (len(LINES) - 1)]


def _own_tasks(compared: Compared) -> list[list[str]]:
    """What the comparison itself asked: the mean reward, and the best of k samples."""
    rows = []
    for task in compared.tasks:
        for k in compared.methods[0].records[0]["tasks"][task]["best_of"]:
            title = f"held out, {task}" + (f", best of {k}" if k != "1" else "")
            rows.append([title, *(number_of(m.mean("tasks", task, "best_of", k), 3) for m in compared.methods)])
    return rows


def _seeds(method: Method) -> str:
    return "" if len(method.folders) < 2 else f", {plural(len(method.folders), 'seed')}"


def _seconds(folder: Path) -> list[float]:
    try:
        return [float(value) for value in read_result(folder).get("seconds", {}).values()]
    except UserError:
        return []


def _command(compared: Compared, begun: bool, greedy: bool, tasks: Sequence[str], folders: Sequence[Path]) -> str:
    model = next(iter(compared.config["methods"].values()))["weights"] if begun else "$run"
    asked = f"python -m experiments.evaluate {model} tasks={','.join(tasks)}"
    if not greedy:
        asked += " samples=16 temperature=0.6"
    place = "tasks" if greedy else "sampled"
    if begun:
        return f"{asked} out={folders[0] / place}"
    asked += "" if greedy else f" out=$run/{place}"
    return f"for run in {' '.join(map(str, folders))}; do {asked}; done"
