"""Keeps the Procfile's processes running: each logs to a file, and one that ends is started again.

Honcho parses the Procfile; its own manager ends everything as soon as one process ends, which is the opposite of what
a system made of restartable workers wants. Here a process that ends is started again after a pause that doubles up
to half a minute, and the others go on.
"""

import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from honcho.environ import parse_procfile

from ops.local import subprocesses
from ops.local.logtail import LogTail

FIRST_PAUSE = 1.0  # seconds
LONGEST_PAUSE = 30.0
SETTLED_AFTER = 60.0  # a process that ran this long starts again after the first pause


def read_procfile(path: Path) -> dict[str, str]:
    """The commands of a Procfile by name, in its order."""
    commands: dict[str, str] = dict(parse_procfile(path.read_text()).processes)
    return commands


@dataclass
class Child:
    """One line of the Procfile with what became of it."""

    name: str
    command: str
    port: int
    log: Path
    env: Mapping[str, str]
    health_port: int  # where it says whether it is ready
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float | None = None
    pause: float = FIRST_PAUSE
    tail: LogTail = field(init=False)

    def __post_init__(self) -> None:
        self.tail = LogTail(self.name, self.log)


class Supervisor:
    """Starts the processes, keeps them running, and ends them. Call `tick` a few times a second, from one thread."""

    def __init__(self, root: Path, cwd: Path, report: Callable[[str], None]) -> None:
        self._root = root
        self._cwd = cwd
        self._report = report
        self.children: list[Child] = []

    def start(
        self, name: str, command: str, port: int, env: Mapping[str, str], *, health_port: int | None = None
    ) -> None:
        """Start a process and keep it running from now on. It finds its port in PORT; its log is NAME.log.

        One whose `health_port` is another one finds that in PALOMAR_HEALTH_PORT.
        """
        log = self._root / "logs" / f"{name}.log"
        ports = {"PORT": str(port)} | ({} if health_port is None else {"PALOMAR_HEALTH_PORT": str(health_port)})
        child = Child(name, command, port, log, {**env, **ports}, port if health_port is None else health_port)
        self.children.append(child)
        self._spawn(child)

    def tick(self) -> None:
        """Start again what ended and is due; report it, and what the processes log as a warning or worse."""
        for child in self.children:
            if child.process is not None and child.process.poll() is not None:
                self._note_end(child, child.process.returncode)
            if child.start_again_at is not None and time.monotonic() >= child.start_again_at:
                self._spawn(child)
            for line in child.tail.warnings():
                self._report(line)

    def stop(self, grace: float) -> None:
        """SIGTERM to all at once, `grace` seconds to finish what they have in hand, then SIGKILL."""
        running = [child.process for child in self.children if child.process is not None]
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        for process in running:
            subprocesses.await_end(process, max(deadline - time.monotonic(), 0.1))
        for child in self.children:
            child.process = None
            child.start_again_at = None

    def _spawn(self, child: Child) -> None:
        child.start_again_at = None
        child.started_at = time.monotonic()
        if subprocesses.rotate(child.log):
            child.tail = LogTail(child.name, child.log)
        child.process = subprocesses.spawn(
            shlex.split(child.command), root=self._root, env=child.env, log=child.log, cwd=self._cwd
        )

    def _note_end(self, child: Child, code: int) -> None:
        ran = time.monotonic() - child.started_at
        pause = FIRST_PAUSE if ran > SETTLED_AFTER else child.pause
        child.process = None
        child.pause = min(pause * 2, LONGEST_PAUSE)
        child.start_again_at = time.monotonic() + pause
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        self._report(f"{child.name} {how}; it starts again in {pause:.0f} s. The end of {child.log}:")
        self._report(subprocesses.last_lines(child.log, 3))
