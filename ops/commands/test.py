"""palomar test: run the tests; everything they need is started for them. Arguments go to pytest."""

import os
import sys

import typer

CONTEXT_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


def test(context: typer.Context) -> None:
    """Run the tests with pytest, which gets all arguments: palomar test tests/unit -k window."""
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *context.args])
