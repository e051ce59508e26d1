"""palomar failover: after a standby was promoted, hold back every send that may have left already."""

import typer

from ops import recovery
from shared.settings import settings


def failover() -> None:
    """Run it once a standby was promoted, or a backup restored by other means, before any process starts to work.

    Commits may be lost: a message that is ready here may have been sent there. From now on no unfinished send leaves by
    itself. Not needed where the standby was synchronous.
    """
    typer.echo(recovery.summary(recovery.fail_over(settings())))
    typer.echo("Next: start the processes.")
