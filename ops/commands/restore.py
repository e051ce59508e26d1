"""palomar restore: a backup into an empty database; it holds back every send that may have left since."""

from pathlib import Path
from typing import Annotated

import asyncpg
import psycopg
import typer

from ops import recovery, terminal
from ops.errors import Problem
from shared.settings import settings


def restore(
    folder: Annotated[Path, typer.Argument(help="made by palomar backup", metavar="FOLDER")],
    jobs: Annotated[int, typer.Option(help="tables read at once", min=1)] = 1,
) -> None:
    """Fill the empty database that DATABASE_URL names, as the role that is to own the tables.

    No process can read it before every row is counted. A send that may have left since waits for your decision.
    """
    try:
        manifest, aside = recovery.restore(settings(), folder, jobs)
    except (psycopg.Error, asyncpg.PostgresError) as error:
        raise Problem(f"PostgreSQL refuses: {str(error).strip()}", "Mend that; restore into a new database.") from error
    typer.echo(
        f"Restored {sum(manifest.rows.values())} rows of {len(manifest.rows)} tables, as they were "
        f"{terminal.when(manifest.made_at)}."
    )
    typer.echo(recovery.summary(aside))
    typer.echo("Next: ./palomar verify, then start the processes.")
