"""The evaluator's side: starts launchers, hands them samples, and never waits without a deadline."""

import atexit
import os
import platform
import site
import socket
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import Any

from ebm_jax.errors import UserError
from ebm_jax.grading import sandbox_frames as frames

_START_SECONDS = 60.0
_GRACE_SECONDS = 60.0
_PACKAGE_ROOT = str(Path(__file__).parents[2])
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[2]); import socket; "
    "from ebm_jax.grading.sandbox_launcher import main; main(socket.socket(fileno=int(sys.argv[1])))"
)
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the order of sets of strings must not decide whether a sample passes
    "PYTHONUTF8": "1",
    "MALLOC_ARENA_MAX": "2",  # else each thread reserves 128 MiB of the address space that is limited
}


class SandboxUnavailable(UserError):
    """The system lacks what keeping untrusted code apart needs."""


def python_folders() -> tuple[list[str], list[str]]:
    """Folders of the running Python that samples may read, and those of its installed packages."""
    paths = sysconfig.get_paths()
    packages = [paths["purelib"], paths["platlib"]]
    if site.ENABLE_USER_SITE:
        packages.append(site.getusersitepackages())
    libraries = [os.path.join(base, name) for base in (sys.base_prefix, sys.prefix) for name in ("lib", "lib64", "bin")]
    wanted = [os.path.realpath(folder) for folder in [*libraries, *packages] if os.path.isdir(folder)]
    found = [os.path.realpath(folder) for folder in packages if os.path.isdir(folder)]
    return wanted, list(dict.fromkeys(found))


class Launcher:
    """A running launcher process, for any number of threads."""

    def __init__(self, *, isolated: bool, readable: tuple[str, ...]):
        self._lock = threading.Lock()
        self.owner = os.getpid()
        folders, packages = python_folders()
        own, theirs = socket.socketpair()
        command = [sys.executable, "-s", "-S", "-P", "-B", "-c", _PROGRAM, str(theirs.fileno()), _PACKAGE_ROOT]
        with theirs:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=_ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._control = own
        try:
            own.settimeout(_START_SECONDS)
            frames.send(own, {"isolated": isolated, "readable": [*folders, *readable], "packages": packages})
            answer = frames.receive(own)
        except OSError as error:
            self.close()
            raise SandboxUnavailable(f"the sandbox's launcher did not start: {error}") from None
        if "missing" in answer:
            self.close()
            raise SandboxUnavailable(_explanation(answer["missing"]))

    def run(self, header: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; ConnectionError or TimeoutError if the launcher or a supervisor has gone."""
        own, theirs = socket.socketpair()
        with own:
            with theirs, self._lock:
                socket.send_fds(self._control, [b"s"], [theirs.fileno()])
            own.settimeout(header["limits"]["seconds"] + _GRACE_SECONDS)
            frames.send(own, header)
            frames.send(own, body)
            return frames.receive(own)

    @property
    def alive(self) -> bool:
        """Whether the process runs and belongs to this one."""
        return self.owner == os.getpid() and self._process.poll() is None

    def close(self) -> None:
        """Ends the launcher and every sample it still runs."""
        self._control.close()
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()


_launchers: dict[tuple[bool, tuple[str, ...]], Launcher] = {}
_refusals: dict[tuple[bool, tuple[str, ...]], str] = {}
_lock = threading.Lock()


def launcher(*, isolated: bool, readable: tuple[str, ...] = ()) -> Launcher:
    """The launcher of this process, started and tried out on first use; SandboxUnavailable if it cannot be."""
    key = (isolated, readable)
    with _lock:
        found = _launchers.get(key)
        if found is not None and found.alive:
            return found
        if found is not None:
            found.close()  # it died, or is the parent's of this forked process
        if key in _refusals:
            raise SandboxUnavailable(_refusals[key])
        try:
            _launchers[key] = _tried_out(isolated, readable)
        except SandboxUnavailable as error:
            _refusals[key] = str(error)
            raise
        return _launchers[key]


def _tried_out(isolated: bool, readable: tuple[str, ...]) -> Launcher:
    """A new launcher that has run one small program which also reads the standard library."""
    if isolated and (sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64")):
        raise SandboxUnavailable(_explanation(f"{sys.platform} on {platform.machine()}"))
    started = Launcher(isolated=isolated, readable=readable)
    program = "import os, colorsys\nprint(len(os.listdir('/proc/self/fd')) if os.path.exists('/proc/self') else 0)"
    header = {"kind": "program", "limits": {"seconds": 30.0}}
    body = {"code": program, "command": None, "file_name": "program.py", "stdin": ""}
    try:
        answer = started.run(header, body)
    except OSError as error:
        answer = {"error": str(error)}
    if answer.get("reason") != "passed":
        started.close()
        raise SandboxUnavailable(_explanation(answer.get("error") or answer.get("stderr") or str(answer)))
    return started


def close() -> None:
    """Ends all launchers; the next sample starts a new one."""
    with _lock:
        for started in _launchers.values():
            started.close()
        _launchers.clear()
        _refusals.clear()


atexit.register(close)


def _setting(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _explanation(what: str) -> str:
    """What is missing, and how to enable it, as far as the system tells."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        fix = "the sandbox needs Linux on x86_64 or aarch64"
    elif _setting("/proc/sys/user/max_user_namespaces") == "0":
        fix = "user namespaces are off: sudo sysctl user.max_user_namespaces=15000"
    elif _setting("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        fix = "user namespaces are for root only: sudo sysctl kernel.unprivileged_userns_clone=1"
    elif _setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        fix = "AppArmor restricts user namespaces: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    elif "442" in what or "mount_setattr" in what:
        fix = "the kernel must be Linux 5.12 or newer"
    else:
        fix = (
            "it needs user, mount and process namespaces; in a container start it with "
            "--security-opt seccomp=unconfined --security-opt apparmor=unconfined (Docker, Podman)"
        )
    return (
        f"untrusted code cannot be kept apart here ({what.strip()[-500:]}); {fix}. "
        "unsafe=True runs it all the same, with the rights of this user"
    )
