"""A broker and a database that stay when a test run ends: `palomar test --keep` starts them, `--stop` ends them.

They belong to a process of their own (`python -m ops.local.kept_stack FOLDER`), which ends by itself an hour after the
last run that used them.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from ops.errors import Problem
from ops.local import subprocesses
from ops.local.stack import Stack

VARIABLE: Final = "PALOMAR_TEST_STACK"  # tells the tests which folder's stack to use
IDLE: Final = 3600.0  # seconds
READY_WITHIN: Final = 180.0  # seconds; a first start installs RabbitMQ
_LOOK: Final = 0.1  # seconds


def ensure(root: Path) -> None:
    """Have the stack of this folder running, for another hour. Raises Problem where it does not come up."""
    ready = _ready(root)
    if not _lives(ready):
        ready.unlink(missing_ok=True)
        owner = _start(root)
        deadline = time.monotonic() + READY_WITHIN
        while not ready.exists():
            if os.waitpid(owner, os.WNOHANG)[0] or time.monotonic() > deadline:
                last = subprocesses.last_lines(_log(root))
                raise Problem(f"The stack to keep does not come up.\n{last}", f"Its log is {_log(root)}.")
            time.sleep(_LOOK)
    ready.touch()


def stop(root: Path) -> bool:
    """End it, and return once nothing of it runs; whether there was one."""
    ready = _ready(root)
    if not _lives(ready):
        return False
    os.kill(int(ready.read_text()), signal.SIGTERM)
    stack = Stack(root)
    while not stack.claim():  # its owner lets go of the folder last
        time.sleep(_LOOK)
    stack.stop()
    return True


def attached(root: Path) -> Stack:
    """The running stack of this folder, for use; it can be neither stopped nor restarted from here."""
    stack = Stack(root)
    stack.attach()
    return stack


def _start(root: Path) -> int:
    """Start the process that owns the stack, in a session of its own, which Ctrl-C does not reach; its id."""
    log = _log(root)
    log.parent.mkdir(parents=True, exist_ok=True)
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "ops.local.kept_stack", str(root)],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _ready(root: Path) -> Path:
    return root / "ready"


def _log(root: Path) -> Path:
    return root / "logs" / "kept.log"


def _lives(ready: Path) -> bool:
    """Whether the process that wrote this file lives."""
    try:
        os.kill(int(ready.read_text()), 0)
    except (OSError, ValueError):
        return False
    return True


def main(root: Path) -> None:
    """Run the stack until SIGTERM, or until no run has used it for an hour."""
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: ended.append(received))
    with Stack(root):
        ready = _ready(root)
        ready.write_text(str(os.getpid()))
        try:
            while not ended and time.time() - ready.stat().st_mtime < IDLE:
                time.sleep(_LOOK)
        finally:
            ready.unlink(missing_ok=True)


if __name__ == "__main__":
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # of whoever started the run, whose locks would stay held
    main(Path(sys.argv[1]))
