"""palomar soak: faults by chance for as long as you like, and other runs that take minutes; nothing may be lost.

The others: a long outage of the database, two minutes in which all that serves live clients is killed in turn, a
campaign for many recipients whose workers die at every point, and many events to a webhook that is down for two days.
"""

import importlib
import os
import secrets
import subprocess
import sys
import time
from typing import Annotated

import typer

from ops import soak as variables
from ops.errors import Problem


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="of faults by chance; the last round is finished")] = 30.0,
    outage: Annotated[float, typer.Option(min=0, help="minutes without a database; 0: no such test")] = 20.0,
    recipients: Annotated[int, typer.Option(min=100, help="of the campaign whose workers are killed")] = 100_000,
    events: Annotated[int, typer.Option(min=1000, help="to a webhook that is down for two days")] = 100_000,
    only: Annotated[str, typer.Option(help="tests whose name fits, as pytest's -k, such as campaign")] = "",
    seed: Annotated[str, typer.Option(help="of an earlier run, to repeat its faults")] = "",
) -> None:
    """Run the slow tests on a broker and a database of their own; print every fault and every verdict.

    Chance decides what fails and when; the machine's own timing is not repeated by a seed.
    """
    importlib.import_module("pytest")  # where it is missing the command says so
    seed = seed or secrets.token_hex(4)
    every = f"{minutes:g} minutes of faults, {outage:g} without database, {recipients:,} recipients, {events:,} events"
    typer.echo(f"seed {seed}: {only or every}")
    started = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-m", "soak", "-s", "-q", "tests"),
            *("-o", "session_timeout=", "-o", "faulthandler_timeout=0"),  # the test ends by itself, after `minutes`
            *(("-k", only) if only else ()),
        ],
        env={
            **os.environ,
            variables.MINUTES: str(minutes),
            variables.OUTAGE: str(outage),
            variables.RECIPIENTS: str(recipients),
            variables.EVENTS: str(events),
            variables.SEED: seed,
        },
        check=False,
    )
    took = (time.monotonic() - started) / 60
    if done.returncode:
        raise Problem(f"Failed after {took:.0f} minutes.", f"Repeat it with: ./palomar soak --seed {seed}")
    typer.echo(f"Passed: {took:.0f} minutes, seed {seed}.")
