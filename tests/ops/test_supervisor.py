"""A process that ends is started again; what it logs as a warning is shown; all of them end when asked to."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.local import subprocesses
from ops.local.logtail import shorten
from ops.local.supervisor import Supervisor, read_procfile

ENDS = "import os; print(os.environ['PORT'], flush=True); raise SystemExit(3)"
WARNS = """
import time
print('{"event": "queue.slow", "level": "warning", "queue": "send", "timestamp": "now"}', flush=True)
print('{"event": "sent", "level": "info"}', flush=True)
time.sleep(600)
"""
FINISHES = """
import signal, sys, time
def finish(*_):
    time.sleep(0.3)
    print("finished what was in hand", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, finish)
print("started", flush=True)
time.sleep(600)
"""
IGNORES = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('started', flush=True); time.sleep(600)"
)


class Running:
    """A supervisor over scripts, and what it reported."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reported: list[str] = []
        self.supervisor = Supervisor(root, root, self.reported.append)

    def start(self, name: str, script: str) -> Path:
        (self.root / f"{name}.py").write_text(script)
        self.supervisor.start(name, f"{sys.executable} {name}.py", 9999, os.environ)
        return self.root / "logs" / f"{name}.log"

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not true():
            assert time.monotonic() < deadline, self.reported
            self.supervisor.tick()
            time.sleep(0.02)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.supervisor.stop(0.1)


def test_a_process_that_ends_is_started_again_after_a_growing_pause(running: Running) -> None:
    log = running.start("persist", ENDS)
    running.until(lambda: log.read_text().count("9999") == 2)
    running.until(lambda: len(running.reported) == 4)
    assert running.reported[0].startswith("persist ended with code 3; it starts again in 1 s.")
    assert running.reported[2].startswith("persist ended with code 3; it starts again in 2 s.")


def test_only_warnings_reach_the_console(running: Running) -> None:
    running.start("send", WARNS)
    running.until(lambda: bool(running.reported))
    assert running.reported == ["send: warning queue.slow queue=send"]


def test_stopping_lets_each_finish_and_kills_who_does_not(running: Running) -> None:
    finishing, ignoring = running.start("reply", FINISHES), running.start("window", IGNORES)
    running.until(lambda: "started" in finishing.read_text() and "started" in ignoring.read_text())
    running.supervisor.stop(1.0)
    assert finishing.read_text() == "started\nfinished what was in hand\n"
    assert subprocesses.belonging_to(running.root) == []


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b'{"event":"x.failed","level":"error","exception":"Traceback ...","tries":2}', "error x.failed tries=2"),
        (b'{"event":"x.done","level":"info"}', None),
        (b"Traceback (most recent call last):", None),
        (b"[1, 2]", None),
        (b'{"level":["error"]}', None),
        (b"", None),
    ],
)
def test_log_lines_as_the_console_shows_them(line: bytes, shown: str | None) -> None:
    assert shorten(line) == shown


def test_the_procfile_starts_every_worker_there_is() -> None:
    checkout = Path(__file__).resolve().parents[2]
    workers = {path.stem for path in (checkout / "workers").iterdir() if not path.name.startswith("_")}
    assert set(read_procfile(checkout / "Procfile")) == {"receive", "api", *workers}
