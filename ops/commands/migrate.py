"""palomar migrate: bring the database that DATABASE_URL names up to date, or take migrations back."""

from typing import Annotated

import typer

from ops import outside
from schema import migrate as migrations
from shared.settings import settings


def migrate(
    status: Annotated[bool, typer.Option("--status", help="only list the migrations")] = False,
    rollback: Annotated[int, typer.Option(help="take the last N migrations back", min=0, metavar="N")] = 0,
) -> None:
    """Apply the migrations that are missing, as the role that is to own the tables."""
    url = settings().database_session_url
    with outside.migrating():
        if status:
            for step in migrations.status(url):
                typer.echo(f"{'applied' if step.applied else 'missing'}  {step.name}")
        elif rollback:
            for name in migrations.rollback(url, rollback):
                typer.echo(f"rolled back {name}")
        else:
            done = migrations.apply(url)
            typer.echo("\n".join(f"applied {name}" for name in done) or "nothing to do: the schema is up to date")
