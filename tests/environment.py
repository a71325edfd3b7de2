"""The compiler of the tests, and of the programs that they start: fake devices, and programs made quickly.

Most of what a test waits for is XLA making machine code for a program that then runs a few steps of a tiny model. The programs
themselves are the real ones; only how well their loops are turned into instructions is given up: LLVM does not optimize, and a
fusion is emitted as it stands instead of through MLIR, which takes a third of the processor time (docs/log.md). Flags that
``XLA_FLAGS`` names already are kept: ``--xla_backend_optimization_level=3 --xla_cpu_use_fusion_emitters=true`` are those of
every day.
"""

EVERY_DAY = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}
"""``compiler_options`` of a program whose rounding is held to stored numbers: it is compiled as users' programs are."""

_QUICK = {
    "--xla_backend_optimization_level": "0",
    "--xla_cpu_use_fusion_emitters": "false",
}
_DEVICES = "--xla_force_host_platform_device_count"


def xla_flags(devices: int, given: str = "") -> str:
    """``XLA_FLAGS`` for ``devices`` CPU devices; flags in ``given`` are kept."""
    ours = {_DEVICES: str(devices)} | _QUICK
    named = {flag.partition("=")[0] for flag in given.split()}
    return " ".join([*given.split(), *(f"{name}={value}" for name, value in ours.items() if name not in named)])
