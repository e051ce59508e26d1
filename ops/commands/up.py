"""palomar up: start everything in the foreground, show one conversation, and say where things are."""

from ops.local import up as system


def up() -> None:
    """Start RabbitMQ, PostgreSQL and every process; Ctrl-C stops them."""
    system.up()
