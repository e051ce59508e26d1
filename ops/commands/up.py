"""palomar up: start everything in the foreground, show one conversation, and say where things are."""

from typing import Annotated

import typer

from ops.local import up as system


def up(
    small: Annotated[
        bool, typer.Option("--small", help="all of Palomar in one process, as Procfile.small says")
    ] = False,
) -> None:
    """Start RabbitMQ, PostgreSQL and every process; Ctrl-C stops them."""
    system.up("Procfile.small" if small else "Procfile")
