"""Starts the processes of one state folder, finds them again after a crash, and ends them.

Each runs in a session of its own, so that a terminal's Ctrl-C reaches only `up`, which ends them in order. Each
carries its state folder in its environment: whatever a killed owner left behind, grandchildren included, is
recognised by that and by nothing else, so no other process is ever touched.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from ops.errors import Problem

MARK = "PALOMAR_STATE_OF"
LARGEST_LOG = 20 * 1024 * 1024  # bytes; a larger one is rotated when its process starts
PR_SET_PDEATHSIG = 1  # linux/prctl.h

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def spawn(
    command: Sequence[str | Path],
    *,
    root: Path,
    env: Mapping[str, str],
    log: Path,
    cwd: Path,
    user: str | None = None,
    on_orphaned: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a process that belongs to the state folder `root`, its output appended to `log`.

    On Linux the kernel sends it `on_orphaned` when this process ends, however it ends. That holds for the thread that
    called, which is why only the main thread may. `user` runs it under another account (root only).
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("spawn from the main thread: the kernel ends the child together with the thread")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**env, MARK: str(root)},
            cwd=cwd,
            start_new_session=True,
            preexec_fn=_follow(os.getpid(), on_orphaned) if _libc else None,
            user=user,
            group=user,
            extra_groups=None if user is None else (),
        )


def rotate(log: Path) -> bool:
    """Rename a log that has grown large to NAME.log.1, so that a new one begins; returns whether it did."""
    large = log.exists() and log.stat().st_size > LARGEST_LOG
    if large:
        log.replace(log.with_name(f"{log.name}.1"))
    return large


def _follow(parent: int, number: signal.Signals) -> Callable[[], None]:
    def before_exec() -> None:
        assert _libc is not None
        _libc.prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # it ended before the line above took effect
            os._exit(1)

    return before_exec


def belonging_to(root: Path) -> list[psutil.Process]:
    """Every living process that was started for the state folder `root`, by whichever owner."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == str(root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def with_variable(root: Path, name: str, start: str) -> list[psutil.Process]:
    """Of these processes, those whose environment variable `name` starts with `start`."""
    found = []
    for process in belonging_to(root):
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(name, "").startswith(start):
                found.append(process)
    return found


def end(processes: Iterable[psutil.Process], grace: float) -> None:
    """SIGTERM, `grace` seconds to finish, SIGKILL; returns once all are gone."""
    processes = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=grace)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def stop(process: subprocess.Popen[bytes], number: signal.Signals, grace: float) -> None:
    """Send our own child `number`, give it `grace` seconds, then SIGKILL; reaps it."""
    if process.poll() is None:
        process.send_signal(number)
    await_end(process, grace)


def await_end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Give our own child `grace` seconds to end by itself, then SIGKILL; reaps it."""
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port(preferred: int, taken: Iterable[int] = ()) -> int:
    """The first free loopback TCP port from `preferred` on.

    Never one the kernel hands out to outgoing connections (32768 and up): a client that keeps calling such a port
    while its server is down ends up connected to itself, and the server cannot come back.
    """
    reserved = set(taken)
    for port in range(preferred, min(preferred + 1000, 32768)):
        if port not in reserved and is_free(port):
            return port
    raise Problem(f"No free TCP port from {preferred} on.", "Close something that listens there.")


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now, on any of the addresses servers bind."""
    for host in ("127.0.0.1", "0.0.0.0"):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def last_lines(log: Path, count: int = 8) -> str:
    """The end of a log, for an error message; empty when there is none."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
