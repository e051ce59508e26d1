"""palomar migrate: bring the database that DATABASE_URL names up to date, or take migrations back."""

from collections.abc import Iterable
from typing import Annotated

import typer

from ops.errors import Problem
from ops.local import external_services
from schema import migrate as migrations
from schema import repair as repairs
from shared.settings import settings

SHOWN = 5  # of what is damaged


def migrate(
    status: Annotated[bool, typer.Option("--status", help="only list the migrations")] = False,
    rollback: Annotated[int, typer.Option(help="take the last N migrations back", min=0, metavar="N")] = 0,
    repair: Annotated[bool, typer.Option("--repair", help="make again what was dropped or changed since")] = False,
) -> None:
    """Apply the migrations that are missing, as the role that is to own the tables."""
    url = settings().database_session_url
    with external_services.migrating():
        if status:
            for step in migrations.status(url):
                typer.echo(f"{'applied' if step.applied else 'missing'}  {step.name}")
        elif rollback:
            _tell(f"rolled back {name}" for name in migrations.rollback(url, rollback))
        elif repair:
            _tell([f"made again: {name}" for name in repairs.repair(url)] or ["nothing to do: all is as migrated"])
        else:
            waiting = any(not step.applied for step in migrations.status(url))
            _refuse_damaged(url, pending=waiting)
            done = migrations.apply(url)
            _tell([f"applied {name}" for name in done] or ["nothing to do: the schema is up to date"])
            if waiting:
                _refuse_damaged(url, pending=False)


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def _refuse_damaged(url: str, *, pending: bool) -> None:
    wrong = [text for found in repairs.damage(url, pending=pending) for text in found.wrong]
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise Problem(
            f"The schema is not as its migrations made it: {'; '.join(wrong[:SHOWN])}{more}.",
            "Run ./palomar migrate --repair. It makes the parts again, not the rows of a table that was dropped: those "
            "come from a backup.",
        )
