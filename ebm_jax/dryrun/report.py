"""What a dry run prints, and what it says of a program that does not fit."""

from collections.abc import Sequence

from ebm_jax.accounting.chips import CHIPS
from ebm_jax.dryrun.inspection import Inspection

SHOWN = 12
"""Kinds of collectives, and buffers, that are listed."""
ADVICE = (
    "train.local_gradients=false, where it is on",
    "fewer rows on a chip (a smaller train.batch_size, or train.accumulate=2, 4, ...)",
    "model.remat=full",
    "weights in more parts (mesh.rules=fsdp mesh.data=1 mesh.fsdp=-1, or mesh.rules=fsdp_tp mesh.tensor=2, 4, ...)",
    "precision.compute=bfloat16",
    "a shorter data.context",
    "more chips, or chips with more memory",
)


def table(found: Inspection) -> str:
    """One program: its memory, work, traffic and least time."""
    mesh = " x ".join(f"{axis}={size}" for axis, size in found.mesh.items())
    # A topology of GPUs says by itself how many nodes there are.
    slices = f" x {found.slices} slices" if found.slices > 1 and found.topology.partition(":")[0] in CHIPS else ""
    lines = [f"{found.program}: {found.chips} chips ({found.topology}{slices}), mesh {mesh}"]
    if found.refused:
        return "\n".join([*lines, *_refusal(found)])
    memory, of = found.memory, f" of {byte_count(found.memory_bytes)}" if found.memory_bytes else ""
    share = f" ({memory.total / found.memory_bytes:.0%})" if found.memory_bytes else ""
    rows = [
        ("memory of a chip", f"{byte_count(memory.total)}{of}{share}"),
        ("  arguments", byte_count(memory.arguments)),
        ("  results elsewhere", byte_count(memory.outputs)),
        ("  temporaries", byte_count(memory.temporaries)),
        ("  code", byte_count(memory.code)),
    ]
    if found.model_flops is not None:
        rows.append(("model FLOPs of a chip", count(found.model_flops / found.chips)))
        again = f" ({found.flops * found.chips / found.model_flops:.2f} x the model's)" if found.model_flops else ""
        rows.append(("compiled FLOPs of a chip", count(found.flops) + again))
    else:
        rows.append(("compiled FLOPs of a chip", count(found.flops)))
    rows.append(("main memory traffic", byte_count(found.bytes)))
    rows += [(f"least time: {name}", duration(seconds)) for name, seconds in found.seconds.items()]
    if found.seconds and "network" not in found.seconds and any(each.crosses for each in found.traffic):
        rows.append(("least time: network", "not known: nothing is published of this chip's"))
    if found.step_seconds is not None:
        mfu = f", at most {found.mfu:.0%} of the peak" if found.mfu is not None else ""
        rows.append(("least time of all", f"{duration(found.step_seconds)}, bound by {found.bound}{mfu}"))
    rows.append(("compiled in", f"{found.compile_seconds:.0f} s"))
    if found.guessed:
        rows.append(("loops of unknown length", f"{found.guessed}, taken to run as often as they can"))
    lines += _aligned([("  " + name, value) for name, value in rows])
    lines += _collectives(found)
    if found.fits is False:
        lines += ["", *_refusal(found)]
    return "\n".join(lines)


def verdict(inspections: Sequence[Inspection]) -> str:
    """One line for all programs."""
    if too_large := [one.program for one in inspections if one.fits is False]:
        return f"does not fit: {', '.join(too_large)}"
    if any(one.fits is None for one in inspections):
        return "compiles; how much memory there is is not known for this topology"
    fullest = max(inspections, key=lambda one: one.memory.total / one.memory_bytes)
    return (
        f"fits: {fullest.program} needs the most, {fullest.memory.total / fullest.memory_bytes:.0%} of a chip's memory"
    )


def _collectives(found: Inspection) -> list[str]:
    if not found.traffic:
        return ["  no collectives"]
    rows = [("  collective", "axes", "chips", "times", "bytes of one", "sent by a chip")]
    for each in found.traffic[:SHOWN]:
        axes = each.axes + (" (between slices)" if each.crosses else "")
        sizes = (byte_count(each.bytes), byte_count(each.sent))
        rows.append((f"  {each.kind}", axes, str(each.chips), f"{each.times:,.0f}", *sizes))
    if left := found.traffic[SHOWN:]:
        times, sent = sum(each.times for each in left), sum(each.sent for each in left)
        rows.append((f"  {len(left)} more kinds", "", "", f"{times:,.0f}", "", byte_count(sent)))
    return ["", *_aligned(rows)]


def _refusal(found: Inspection) -> list[str]:
    if found.refused:
        said = found.refused.strip().splitlines()[0]
        lines = [f"  {found.program} does not fit: the compiler refuses it: {said}"]
    else:
        lines = [
            f"  {found.program} does not fit: it needs {byte_count(found.memory.total)} of a chip's"
            f" {byte_count(found.memory_bytes)}, {byte_count(found.memory.total - found.memory_bytes)} too much"
        ]
    lines.append("  the largest arrays that it makes, over all chips:")
    lines += _aligned([("    " + byte_count(one.bytes), one.shape, one.operation, one.place) for one in found.largest])
    return [*lines, "  what helps, one at a time or together:", *[f"    * {fix}" for fix in ADVICE]]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def byte_count(number: float) -> str:
    """``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} TiB"


def count(number: float) -> str:
    """``1.5 T``."""
    for unit in ("", " k", " M", " G", " T"):
        if number < 1000:
            return f"{number:.4g}{unit}"
        number /= 1000
    return f"{number:.4g} P"


def duration(number: float) -> str:
    """``1.5 ms``, from seconds."""
    return (
        f"{number:.3g} s" if number >= 1 else f"{number * 1e3:.3g} ms" if number >= 1e-3 else f"{number * 1e6:.3g} us"
    )
