"""palomar flow: the name that `palomar topology` had; it goes in version 0.2."""

import typer

from ops.commands.topology import topology


def flow() -> None:
    """Show how messages flow, and name the command that does it from now on."""
    typer.echo("This command is `palomar topology` now.", err=True)
    topology()
