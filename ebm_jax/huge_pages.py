"""Memory of the host in pages of 2 MiB, which XLA's programs on CPU fill for every step anew.

The buffers of a step are taken from ``malloc`` and given back after it, so the kernel hands their pages out again for every
step, 4 KiB at a time. Where Linux gives large ones only to those who ask (``madvise``, most distributions' default), glibc asks
for them when its tunable ``glibc.malloc.hugetlb`` is 1, which it reads once, before a process's first instruction.
"""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
ASK = "glibc.malloc.hugetlb=1"
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def asking(environment: Mapping[str, str], kernel: Path = _KERNEL, libc: str | None = None) -> dict[str, str] | None:
    """The environment under which this program would get large pages; ``None`` where asking changes nothing.

    That is: the kernel gives them always or never, the library is not glibc, or the tunable is set already, to any value.
    """
    told = environment.get(VARIABLE, "")
    if "glibc.malloc.hugetlb=" in told or (platform.libc_ver()[0] if libc is None else libc) != "glibc":
        return None
    try:
        if "[madvise]" not in kernel.read_text():
            return None
    except OSError:
        return None
    return {**environment, VARIABLE: f"{told}:{ASK}" if told else ASK}


def ask_again() -> None:
    """Begins this process again, as itself with the same arguments, where that gives it large pages.

    To be called before anything else is done.
    """
    if (environment := asking(os.environ)) is not None:
        os.execve(sys.executable, sys.orig_argv, environment)
