"""Writes the stack of a process that runs tests to a file when a signal ends it, and shows it in the report.

A SIGABRT, as `.ci/run` sends it where the suite hangs, reaches all of them at once; on the common standard error they
would write over each other. A process that runs the tests by itself tells it there, as pytest always does.
"""

import faulthandler
import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / ".palomar"
FILES = "tests.gw*.stack"
WORKER = os.environ.get("PYTEST_XDIST_WORKER")  # gw0, gw1 …; None in the process that hands the tests out


@pytest.hookimpl(trylast=True)  # after pytest's own, which takes standard error
def pytest_configure(config: pytest.Config) -> None:
    FOLDER.mkdir(mode=0o711, exist_ok=True)
    if WORKER:
        faulthandler.enable((FOLDER / f"tests.{WORKER}.stack").open("w"))
    elif _hands_out(config):
        for left in FOLDER.glob(FILES):
            left.unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for path in sorted(FOLDER.glob(FILES)) if _hands_out(config) else ():
        if dumps := path.read_text():
            terminalreporter.section(f"ended by a signal: {path.name}")
            terminalreporter.write_line(dumps)


def _hands_out(config: pytest.Config) -> bool:
    return bool(config.getoption("numprocesses", None))
