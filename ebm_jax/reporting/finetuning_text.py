"""A comparison as a page of Markdown: figures side by side, losses by length, differences with intervals, samples."""

from collections import Counter
from collections.abc import Sequence

from ebm_jax.records import BASE
from ebm_jax.reporting.finetuning import Compared, Method, lowest
from ebm_jax.reporting.intervals import Estimate
from ebm_jax.reporting.markdown import markdown_table
from ebm_jax.reporting.numbers import enumeration, integer, si
from ebm_jax.reporting.paired import Difference

REPEATS_AT = 8
"""The completion length at which equal samples are told of, or the nearest to it."""
SHOWN = 4


def markdown(compared: Compared) -> str:
    """The page; ``reporting.finetuning.read_comparison`` reads what it is made of."""
    parts = [f"# {compared.name}", _overview(compared), _best_of(compared), _by_length(compared)]
    parts += [_differences(compared), _samples(compared)]
    if compared.left_out:
        parts.append(
            f"Left out, for their records are of another evaluation: {', '.join(compared.left_out)}. The command that made"
            " this page measures them again."
        )
    return "\n\n".join(filter(None, parts)) + "\n"


def shown(difference: Difference, digits: int = 4) -> str:
    """``-0.0123 [-0.0150, -0.0096]``."""
    ends = difference.interval
    told = "" if ends is None else f" [{ends.low:+.{digits}f}, {ends.high:+.{digits}f}]"
    return f"{difference.value:+.{digits}f}{told}"


def estimated(estimate: Estimate, digits: int = 4) -> str:
    """``0.0123 ± 0.0027``, half of the interval over seeds behind the sign; without it for a single seed."""
    if estimate.interval is None:
        return f"{estimate.value:.{digits}f}"
    half = (estimate.interval.high - estimate.interval.low) / 2
    return f"{estimate.value:.{digits}f} ± {half:.{digits}f}"


def _overview(compared: Compared) -> str:
    some, last = min(compared.lengths, key=lambda n: abs(n - REPEATS_AT)), compared.lengths[-1]
    head = ["", "seeds", "steps", "FLOPs", "CE, scored", "CE, all", *compared.tasks]
    head += [f"equal pairs, {some}", f"ended, {last}", "log-prob gap"]
    rows = []
    for m in compared.methods:
        begun = m.name == BASE
        row = [m.name, str(len(m.records)), *(["", ""] if begun else [integer(m.records[0]["step"]), _flops(m)])]
        row += [estimated(m.mean("nll", tokens)) for tokens in ("scored", "all")]
        row += [estimated(m.mean("tasks", task, "best_of", "1")) for task in compared.tasks]
        row += [estimated(m.mean("duplicates", str(some)), 3), estimated(m.mean("ended", str(last)), 3)]
        rows.append([*row, f"{m.mean('sampler_gap').value:.1e}"])
    notes = [f"CE is cross-entropy at temperature 1, in nats; {BASE} is the model that all begin with."]
    if decides := compared.config.get("headline"):
        notes.append(f"The task that was named to decide is {decides}.")
    notes += (
        ["Behind ± half a 95 percent t interval over seeds."]
        if any(len(m.records) > 1 for m in compared.methods)
        else []
    )
    notes += _failures(compared)
    return "\n\n".join(["## Side by side", markdown_table(head, rows), " ".join(notes)])


def _flops(method: Method) -> str:
    return si(method.mean("flops").value).replace("\u00a0", " ")


def _failures(compared: Compared) -> list[str]:
    """Samples that could not be graded, for they are worth nothing and lower a mean."""
    told = []
    for task in compared.tasks:
        for m in compared.methods:
            reasons: Counter[str] = Counter()
            for record in m.records:
                reasons.update(record["tasks"][task]["failures"])
            if counts := ", ".join(f"{why} {n}" for why, n in reasons.items() if n):
                told.append(f"{task}, {m.name}: samples worth 0 for {counts}.")
    return told


def _best_of(compared: Compared) -> str:
    parts = []
    for task in compared.tasks:
        numbers = list(compared.methods[0].records[0]["tasks"][task]["best_of"])
        if len(numbers) < 2:
            continue
        rows = [[m.name, *(estimated(m.mean("tasks", task, "best_of", k)) for k in numbers)] for m in compared.methods]
        parts.append(f"Best of k samples, {task}:\n\n" + markdown_table(["", *(f"k={k}" for k in numbers)], rows))
    return "\n\n".join(parts)


def _by_length(compared: Compared) -> str:
    head = ["", *map(str, compared.lengths)]
    rows = lambda name: [[m.name, *(estimated(m.mean(name, n)) for n in head[1:])] for m in compared.methods]
    features = compared.config["matching"]["features"]["weights"]
    note = (
        f"U-statistic, not whitened, at temperature {compared.config['matching']['temperature']:g}, features of: {features};"
        f" {integer(compared.methods[0].records[0]['anchors'])} anchors, the same for all."
    )
    losses = rows("matching_loss")
    if anywhere := compared.methods[0].records[0].get("unconditional_loss"):
        losses.append(["true text from anywhere", *(f"{anywhere[n]:.4f}" for n in head[1:])])
        note += " The last row is of other prompts' true continuations: a model as far off knows nothing of its prompt there."
    title, whitened = "## Feature-matching loss by completion length", "The same of whitened features (EBFT, eq. 53):"
    tables = markdown_table(head, losses), markdown_table(head, rows("whitened_matching_loss"))
    return "\n\n".join([title, tables[0], note, whitened, tables[1]])


def _differences(compared: Compared) -> str:
    names = [m.name for m in compared.methods]
    trained = [m.name for m in compared.trained]
    parts = []
    if names[0] == BASE and trained:
        parts.append(_against(compared, trained, BASE))
        below = lowest(compared, trained, BASE)
        parts.append(f"Feature-matching loss below that of {BASE} at every length: {enumeration(below) or 'none'}.")
    if len(trained) > 1:
        parts.append(_against(compared, trained[1:], trained[0]))
    if not parts:
        return ""
    note = "Below zero: less loss, or less reward. Intervals cluster what shares a row; seeds are averaged first."
    return "\n\n".join(["## Differences, paired, with 95 percent intervals", *parts, note])


def _against(compared: Compared, names: Sequence[str], other: str) -> str:
    """A row for each figure, or for each method where there are more methods."""
    figures = {
        f"length {n}": [compared.matching_difference(name, other, n) for name in names] for n in compared.lengths
    }
    figures["mean of lengths"] = [compared.matching_difference(name, other) for name in names]
    figures |= {f"CE, {t}": [compared.nll_difference(name, other, t) for name in names] for t in ("scored", "all")}
    figures |= {task: [compared.task_difference(name, other, task) for name in names] for task in compared.tasks}
    head = [f"less {other}", *names]
    rows = [[title, *map(shown, values)] for title, values in figures.items()]
    if len(names) > len(figures):
        head, *rows = [[corner, *row] for corner, *row in zip(head, *rows, strict=True)]
    return markdown_table(head, rows)


def _samples(compared: Compared) -> str:
    first = compared.methods[0].records[0]["samples"]
    parts = ["## Samples"]
    for number, sample in enumerate(first[:SHOWN]):
        parts.append(f"**{_line(sample['prompt'])}** {_line(sample['truth'])}")
        written = [(m.name, m.records[0]["samples"]) for m in compared.methods]
        parts.append("\n".join(f"* {name}: {_line(s[number]['written'])}" for name, s in written if number < len(s)))
    return "\n\n".join(parts) if first else ""


def _line(text: str) -> str:
    return text.replace("\n", "⏎ ").replace("|", "\\|").strip()
