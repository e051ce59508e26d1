"""What is missing is asked for, where somebody is there to answer.

Secrets are asked for or come from variables: as arguments others could read them in the list of processes.
"""

import os
import sys

import typer

from ops.errors import Problem


def asked(option: str, given: str | None, question: str) -> str:
    """An option's value, asked for where it is missing. Raises Problem where nobody is there to answer."""
    if given is not None and given.strip():
        return given
    if not sys.stdin.isatty():
        raise Problem(f"{option} is missing.", f"Add {option}, or run this in a terminal, where it is asked for.")
    return str(typer.prompt(question))


def secret(variable: str, name: str) -> str:
    """A secret from its variable, or asked for without showing it. Raises Problem where nobody is there to answer."""
    given = os.environ.get(variable, "")
    if not given:
        if not sys.stdin.isatty():
            raise Problem(f"The {name.lower()} is missing.", f"Set {variable}, or run this in a terminal.")
        given = typer.prompt(name, hide_input=True)
    return given.strip()


def chosen(variable: str, question: str) -> str:
    """A secret that somebody may choose, from its variable or asked for; empty where we are to make one."""
    given = os.environ.get(variable, "")
    if not given and sys.stdin.isatty():
        given = typer.prompt(question, default="", show_default=False)
    return given.strip()
