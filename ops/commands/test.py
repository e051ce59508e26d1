"""palomar test: run the tests; everything they need is started for them. Arguments go to pytest."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

CONTEXT_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}

PROCESSES = 4  # also on two cores: most of a test is waiting for the broker's and the database's disk, or for a lease
# Options of pytest that decide this themselves, or need the terminal, which one process of many does not have.
ONE_PROCESS = ("-n", "--numprocesses", "--dist", "-d", "-s", "--capture=no", "--pdb", "--trace")


KEPT = Path(".palomar/test-kept")


def test(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="leave the servers running for the next --keep")] = False,  # noqa: PT028
    stop: Annotated[bool, typer.Option("--stop", help="end what --keep left")] = False,  # noqa: PT028
) -> None:
    """Run the tests with pytest, which gets all arguments: palomar test tests/unit -k window."""
    importlib.import_module("pytest")  # where it is missing the command says so
    if keep or stop:
        kept_stack = importlib.import_module("ops.local.kept_stack")  # the extra `local` has what it needs
        if stop:
            typer.echo("Stopped." if kept_stack.stop(KEPT.resolve()) else "Nothing was left running.")
            return
        kept_stack.ensure(KEPT.resolve())
        os.environ[kept_stack.VARIABLE] = str(KEPT.resolve())
    processes = [] if keep else beside(context.args)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *processes, *context.args])


def beside(arguments: Sequence[str]) -> list[str]:
    """What makes pytest run tests in several processes; nothing where these arguments name files, or decide it.

    Each process starts a broker and a database of its own, which a few tests are not worth.
    """
    files = any(Path(argument.partition("::")[0]).suffix == ".py" for argument in arguments)
    if files or any(argument.startswith(ONE_PROCESS) for argument in arguments):
        return []
    # A process that has nothing left takes over half of what another one still has.
    return ["--numprocesses", str(PROCESSES), "--dist", "worksteal"]
