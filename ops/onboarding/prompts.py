"""Prompts for options and secrets that were left out, where a person is at the terminal.

Secrets come from variables or a prompt: as arguments other users could read them in the list of processes.
"""

import os
import sys

import typer

from ops.errors import Problem


def asked(option: str, given: str | None, question: str) -> str:
    """An option's value, prompted for where it is missing. Raises Problem without a terminal."""
    if given is not None and given.strip():
        return given
    if not sys.stdin.isatty():
        raise Problem(f"{option} is missing.", f"Add {option}, or run this in a terminal, where it is asked for.")
    return str(typer.prompt(question))


def secret(variable: str, name: str) -> str:
    """A secret from its variable, or prompted for without showing it. Raises Problem without a terminal."""
    given = os.environ.get(variable, "")
    if not given:
        if not sys.stdin.isatty():
            raise Problem(f"The {name.lower()} is missing.", f"Set {variable}, or run this in a terminal.")
        given = typer.prompt(name, hide_input=True)
    return given.strip()


def chosen(variable: str, question: str) -> str:
    """A secret that a person may choose, from its variable or a prompt; empty where we are to make one."""
    given = os.environ.get(variable, "")
    if not given and sys.stdin.isatty():
        given = typer.prompt(question, default="", show_default=False)
    return given.strip()
