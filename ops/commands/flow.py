"""palomar flow: the old name of `palomar topology`, which version 0.2 removes."""

import typer

from ops.commands.topology import topology


def flow() -> None:
    """Show how messages flow, and name the command that does it from now on."""
    typer.echo("This command is `palomar topology` now.", err=True)
    topology()
