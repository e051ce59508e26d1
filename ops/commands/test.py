"""palomar test: run the tests; everything they need is started for them. Arguments go to pytest."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

CONTEXT_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}

PROCESSES = 4  # also on two cores: most of a test is waiting for the broker's and the database's disk, or for a lease
# Options of pytest that decide this themselves, or need the terminal, which one process of many does not have.
ONE_PROCESS = ("-n", "--numprocesses", "--dist", "-d", "-s", "--capture=no", "--pdb", "--trace")


def test(context: typer.Context) -> None:
    """Run the tests with pytest, which gets all arguments: palomar test tests/unit -k window."""
    importlib.import_module("pytest")  # where it is missing the command says so
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *beside(context.args), *context.args])


def beside(arguments: Sequence[str]) -> list[str]:
    """What makes pytest run tests in several processes; nothing where these arguments name files, or decide it.

    Each process starts a broker and a database of its own, which a few tests are not worth.
    """
    files = any(Path(argument.partition("::")[0]).suffix == ".py" for argument in arguments)
    if files or any(argument.startswith(ONE_PROCESS) for argument in arguments):
        return []
    # A process that has nothing left takes over half of what another one still has.
    return ["--numprocesses", str(PROCESSES), "--dist", "worksteal"]
