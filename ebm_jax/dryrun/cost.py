"""What a compiled program does on one chip: matrix FLOPs, bytes of main memory, collectives; loops as often as they run.

XLA's own analysis counts the body of a loop once. Here the printed program is read: every computation is costed by itself, and
counted as often as it is called, a loop's body by the number of turns that the compiler has written on it, or else by the
constant that its condition counts up to. Only matrix products and convolutions count as FLOPs. Bytes are what instructions read
and write in main memory: whole operands and results, of slices and updates only what they touch.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from ebm_jax.dryrun.hlo import Computation, Instruction, Module

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "add-dependency", "iota"),
    *("partition-id", "replica-id", "domain", "opt-barrier", "while", "conditional", "call"),
}
"""Instructions that move nothing themselves."""
_GEMM = re.compile(r'custom_call_target="__cublas.*"lhs_contracting_dimensions":\[([^\]]*)\]')
_SLICES = {"dynamic-slice", "slice", "gather"}


@dataclass(frozen=True)
class Collective:
    """A transfer between the chips of a group."""

    kind: str
    group: tuple[int, ...]
    """The first of its groups, as places in the flattened mesh."""
    bytes: float
    """What every chip brings to it."""

    @property
    def sent(self) -> float:
        """Bytes that a chip sends, by the way that sends the fewest."""
        n = len(self.group)
        if n < 2:
            return 0.0
        share = {"all-gather": n - 1.0, "all-reduce": 2 * (n - 1) / n, "collective-permute": 1.0}
        return self.bytes * share.get(self.kind, (n - 1) / n)


@dataclass
class Cost:
    """Sums over a program."""

    flops: float = 0.0
    bytes: float = 0.0
    collectives: dict[Collective, float] = field(default_factory=dict)
    """How often each is run."""
    guessed: int = 0
    """Loops whose number of turns the compiler does not know."""

    def add(self, other: "Cost", times: float = 1.0) -> None:
        self.flops += times * other.flops
        self.bytes += times * other.bytes
        self.guessed += other.guessed
        for collective, count in other.collectives.items():
            self.transfer(collective, times * count)

    def transfer(self, collective: Collective, times: float = 1.0) -> None:
        """Counts a collective so many times more."""
        self.collectives[collective] = self.collectives.get(collective, 0.0) + times


def cost_of(module: Module, turns: int = 1) -> Cost:
    """The cost of a program on one chip; loops of unknown length are taken to run ``turns`` times."""
    return _Costs(module, turns).entry


class _Costs:
    """Costs of computations by their names, each found once."""

    def __init__(self, module: Module, turns: int) -> None:
        self._module, self._turns = module, turns
        self._known: dict[str, Cost] = {}

    @cached_property
    def entry(self) -> Cost:
        return self.of(self._module.entry)

    def of(self, name: str) -> Cost:
        if name not in self._known:
            total, computation = Cost(), self._module.computations[name]
            for one in computation.instructions.values():
                self._count(one, computation, total)
            self._known[name] = total
        return self._known[name]

    @cached_property
    def _started(self) -> set[str]:
        """Channels of collectives that TPU programs begin in one fusion, go on with beside other work, and end in another.

        Each of those fusions names the collective and hands its arrays on; it is the beginning that counts.
        """
        computations = self._module.computations.values()
        return {_channel(each.instructions[name]) for each in computations for name in _begun(each)} - {""}

    def _goes_on(self, one: Instruction, within: Computation) -> bool:
        """Whether it is a collective that has begun elsewhere."""
        return one.opcode in COLLECTIVES and _channel(one) in self._started and one.name not in _begun(within)

    def _count(self, one: Instruction, within: Computation, total: Cost) -> None:
        kind = one.opcode.removesuffix("-start")
        if one.opcode.endswith(("-done", "-update")):
            return
        if one.opcode == "while":
            turns = self._length(one, within)
            total.guessed += turns is None
            for part in ("body", "condition"):
                for name in one.calls.get(part, ()):
                    total.add(self.of(name), self._turns if turns is None else turns)
            return
        if one.opcode == "conditional":
            branches = [self.of(name) for names in one.calls.values() for name in names]
            total.add(max(branches, key=lambda cost: (cost.flops, cost.bytes), default=Cost()))
            return
        if one.opcode == "fusion":
            (name,) = one.calls["calls"]
            inside = self.of(name)
            total.flops += inside.flops
            for collective, count in inside.collectives.items():
                total.transfer(collective, count)
            total.bytes += self._fusion_bytes(one, within, self._module.computations[name])
            return
        if one.opcode in ("call", "async-start"):
            for names in one.calls.values():
                for name in names:
                    total.add(self.of(name))
            return
        if one.opcode == "send" and (target := re.search(r'_xla_megascale_target="([^"]*)"', one.attributes)):
            brought = within.instructions[one.operands[0]].bytes
            total.transfer(Collective(_between_slices(one), _slice_leaders(target[1]), brought))
        if self._goes_on(one, within):
            return
        if kind in COLLECTIVES:
            brought = sum(within.instructions[name].bytes for name in one.operands)
            if kind == "all-reduce" and _keeps_a_part(one, within):
                kind = "reduce-scatter"
            total.transfer(Collective(kind, _group(one) or tuple(range(self._module.partitions)), brought))
        total.flops += _flops(one, within)
        total.bytes += _moved(one, within)

    def _length(self, loop: Instruction, within: Computation) -> int | None:
        if loop.trips is not None:
            return loop.trips
        # The compiler writes no number on some of its own loops, that count up to a constant, by one or by more.
        (condition,), (body,) = (
            tuple(map(self._module.computations.get, loop.calls[part])) for part in ("condition", "body")
        )
        if condition is None or body is None or condition.root.opcode != "compare":
            return None
        counter, limit = (condition.instructions[name] for name in condition.root.operands)
        last, place = _constant(limit, condition), counter.attribute("index")
        if condition.root.attribute("direction") != "LT" or last is None or not place.isdigit():
            return None
        begun, step = within.instructions[loop.operands[0]], body.instructions[body.root.operands[int(place)]]
        first = _constant(within.instructions[begun.operands[int(place)]], within) if begun.opcode == "tuple" else None
        added = [_constant(body.instructions[name], body) for name in step.operands] if step.opcode == "add" else []
        stride = next((number for number in added if number), 1)
        return max(0, -(-(last - (first or 0)) // stride))

    def _fusion_bytes(self, fusion: Instruction, within: Computation, inside: Computation) -> float:
        read = 0.0
        for number, name in enumerate(fusion.operands):
            operand = within.instructions[name]
            if (parameter := inside.parameters.get(number)) is not None:
                read += min(operand.main_bytes, self._read(parameter, inside))
        return read + self._written(fusion, inside)

    def _read(self, one: Instruction, inside: Computation) -> float:
        """Bytes of an instruction's result that its users touch; infinite where one of them may touch all."""
        total = 0.0
        for user in inside.users.get(one.name, []):
            if self._hands_on(user, inside):
                continue
            if user.opcode in _SLICES and user.operands[0] == one.name:
                total += user.bytes
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == one.name:
                continue  # Written in its place.
            elif user.opcode == "bitcast":
                total += self._read(user, inside)
            elif user.opcode == "fusion":
                (name,) = user.calls["calls"]
                within = self._module.computations[name]
                places = [number for number, operand in enumerate(user.operands) if operand == one.name]
                total += sum(self._read(within.parameters[number], within) for number in places)
            else:
                return math.inf
        return total

    def _hands_on(self, one: Instruction, inside: Computation) -> bool:
        """Whether it only passes the arrays of a collective that goes on, or ends, there."""
        if not any(self._goes_on(each, inside) for each in inside.instructions.values()):
            return False
        passes = one.opcode == "parameter" or (one.root and one.opcode == "tuple")
        return passes or "AsyncCollectiveDone" in one.attributes or self._goes_on(one, inside)

    def _written(self, fusion: Instruction, inside: Computation) -> float:
        root = inside.root
        parts = [inside.instructions[name] for name in root.operands] if root.opcode == "tuple" else [root]
        results = [part for part in parts for _ in part.shapes]
        total = 0.0
        for result, shape in zip(results, fusion.shapes, strict=True):
            while result.opcode == "bitcast":
                result = inside.instructions[result.operands[0]]
            if not shape.in_main_memory or self._hands_on(result, inside):
                continue
            if result.opcode == "dynamic-update-slice":
                total += min(shape.bytes, inside.instructions[result.operands[1]].bytes)
            else:
                total += shape.bytes
        return total


def _constant(one: Instruction, within: Computation) -> int | None:
    """The whole number that an instruction is, through copies of it; None where it is not one."""
    while one.opcode in ("copy", "bitcast", "convert") and one.operands[0] in within.instructions:
        one = within.instructions[one.operands[0]]
    return int(one.operands[0]) if one.opcode == "constant" and re.fullmatch(r"-?\d+", one.operands[0]) else None


def _channel(one: Instruction) -> str:
    return one.attribute("channel_id")


def _begun(computation: Computation) -> set[str]:
    """Names of collectives that begin there, to go on elsewhere."""
    starts = (one for one in computation.instructions.values() if '"AsyncCollectiveStart"' in one.attributes)
    return {name for one in starts for name in one.operands if computation.instructions[name].opcode in COLLECTIVES}


def _moved(one: Instruction, within: Computation) -> float:
    """Bytes that a single instruction reads and writes in main memory."""
    if one.opcode in _FREE:
        return 0.0
    operands = [within.instructions[name] for name in one.operands if name in within.instructions]
    if one.opcode in _SLICES:
        return one.main_bytes + (one.bytes if operands and operands[0].main_bytes else 0.0)
    if one.opcode == "dynamic-update-slice":
        return operands[1].main_bytes + (operands[1].bytes if one.main_bytes else 0.0)
    if one.opcode == "copy-start":
        result = one.shapes[0]
        return operands[0].main_bytes + (result.bytes if result.in_main_memory else 0.0)
    return one.main_bytes + sum(operand.main_bytes for operand in operands)


def _flops(one: Instruction, within: Computation) -> float:
    if one.opcode == "dot":
        lhs = within.instructions[one.operands[0]].shapes[0]
        contracted = _numbers(one.attribute("lhs_contracting_dims"))
        return 2.0 * one.shapes[0].elements * math.prod(lhs.sizes[axis] for axis in contracted)
    if one.opcode == "convolution":
        return _convolution_flops(one, within)
    if one.opcode == "custom-call" and (gemm := _GEMM.search(one.attributes)):
        # GPU programs call a library for some matrix products.
        lhs = within.instructions[one.operands[0]].shapes[0]
        return 2.0 * one.shapes[0].elements * math.prod(lhs.sizes[axis] for axis in _numbers(gemm[1]))
    return 0.0


def _convolution_flops(one: Instruction, within: Computation) -> float:
    """Two for every product that is not with padding or a hole: TPUs run batched matrix products as such convolutions."""
    lhs, kernel = (within.instructions[name].shapes[0] for name in one.operands[:2])
    read, out_labels = one.attribute("dim_labels").split("->")
    lhs_labels, kernel_labels = read.split("_")
    window = dict(re.findall(r"(\w+)=([\w.\-x]+)", one.attribute("window").strip("{}")))
    rows = lhs.sizes[lhs_labels.index("b")]
    features = kernel.sizes[kernel_labels.index("i")] * kernel.sizes[kernel_labels.index("o")]
    batch_groups = int(one.attribute("batch_group_count") or 1)
    products = features * rows / batch_groups
    for axis in sorted(label for label in lhs_labels if label.isdigit()):
        size, places, out = (
            shape.sizes[labels.index(axis)]
            for shape, labels in ((lhs, lhs_labels), (kernel, kernel_labels), (one.shapes[0], out_labels))
        )
        products *= _meetings(size, places, out, window, int(axis))
    return 2.0 * products


def _meetings(size: int, kernel: int, out: int, window: dict[str, str], axis: int) -> int:
    """How many pairs of a place in the result and one in the kernel meet an entry of the operand, along one axis."""
    part = lambda name, default: window[name].split("x")[axis] if name in window else default
    stride, low = int(part("stride", "1")), int(part("pad", "0_0").split("_")[0])
    holes, spread = int(part("lhs_dilate", "1")), int(part("rhs_dilate", "1"))
    count = 0
    for place in range(kernel):
        offset = place * spread - low
        # Places o with 0 <= o * stride + offset <= (size - 1) * holes that fall on an entry.
        if stride == holes == 1:
            count += max(0, min(out, size - offset) - max(0, -offset))
        else:
            at = (o * stride + offset for o in range(out))
            count += sum(0 <= x <= (size - 1) * holes and x % holes == 0 for x in at)
    return count


def _group(one: Instruction) -> tuple[int, ...]:
    """The places of a collective's first group; none where it is all of them."""
    if pairs := one.attribute("source_target_pairs"):
        first = re.findall(r"\{(\d+),(\d+)\}", pairs)
        return next((tuple(sorted((int(a), int(b)))) for a, b in first if a != b), (0,))
    return _first_group(one.attribute("replica_groups"))


def _between_slices(send: Instruction) -> str:
    """Which collective a transfer over the data centre's network is a part of: TPU programs hand it to the host."""
    told = re.search(r'_xla_megascale_transfer_type="([^"]*)"', send.attributes)
    return told[1].lower().replace("_", "-") if told else "send"


def _slice_leaders(target: str) -> tuple[int, ...]:
    """The first chip of every slice of ``{1,2}x{0:3}``: slices, and chips in each."""
    slices, _, chips = target.partition("x")
    return tuple(slice * (max(_numbers(chips), default=0) + 1) for slice in range(len(_numbers(slices))))


def _keeps_a_part(reduce: Instruction, within: Computation) -> bool:
    """Whether a chip only takes its slice of the sum: how TPU programs write a reduce-scatter."""
    return within.root.opcode == "dynamic-slice" and within.root.operands[0] == reduce.name


def _first_group(text: str) -> tuple[int, ...]:
    """Its first group, of any of the three ways to write groups.

    ``{{0,1},{2,3}}``; ``[groups,size]<=[sizes]T(order)``, an iota of those sizes, transposed and cut into groups; and
    ``mesh['a'=4,'b'=2] {'b'}``, the places that differ in these axes, of which ``'a':(2)2`` is a part of one.
    """
    if listed := re.match(r"\{\{([\d,]+)\}", text):
        return tuple(_numbers(listed[1]))
    if counted := re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        _, *shape = _numbers(counted[1])
        sizes = _numbers(counted[2])
        order = _numbers(counted[3]) if counted[3] else list(range(len(sizes)))
        return _places(sizes, order, math.prod(shape))
    if meshed := re.match(r"mesh\[([^\]]*)\](?:,? ?device_ids=\[[^\]]*\])? ?\{([^}]*)\}", text):
        return _mesh_group(meshed[1], meshed[2])
    return ()


def _places(sizes: list[int], order: list[int], count: int) -> tuple[int, ...]:
    """The first places of a grid that is walked along the axes of ``order``, the last one fastest."""
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    members = []
    for index in range(count):
        place, rest = 0, index
        for axis in reversed(order):
            rest, at = divmod(rest, sizes[axis])
            place += at * strides[axis]
        members.append(place)
    return tuple(members)


def _mesh_group(mesh: str, axes: str) -> tuple[int, ...]:
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
    stride, strides = math.prod(sizes.values()), dict[str, int]()
    for name, size in sizes.items():
        stride //= size
        strides[name] = stride
    members = [0]
    for name, before, part in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes):
        size = int(part) if part else sizes[name]
        # The part of an axis that is left when it is cut into ``before`` pieces, in ``size`` steps.
        step = strides[name] * (sizes[name] // (int(before) * size) if part else 1)
        members = [place + step * at for place in members for at in range(size)]
    return tuple(members)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def axes_of(group: Iterable[int], sizes: dict[str, int]) -> tuple[str, ...]:
    """The mesh axes along which the places of a group differ; ``sizes`` by axis, the last one fastest."""
    places = list(group)
    found, stride = [], math.prod(sizes.values())
    for axis, size in sizes.items():
        stride //= size
        if len({place // stride % size for place in places}) > 1:
            found.append(axis)
    return tuple(found)
