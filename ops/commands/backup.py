"""palomar backup: the whole database in a folder, read back and counted."""

from pathlib import Path
from typing import Annotated

import psycopg
import typer

from ops import archives
from ops.errors import Problem
from shared.settings import settings


def backup(
    folder: Annotated[Path, typer.Argument(help="a new folder", metavar="FOLDER")],
    jobs: Annotated[int, typer.Option(help="tables written at once", min=1)] = 1,
) -> None:
    """Write what DATABASE_URL's database holds into a folder, beside running processes; `restore` reads it.

    It holds messages and addresses. Credentials in it stay sealed: keep PALOMAR_SECRET_KEYS elsewhere.
    """
    try:
        manifest = archives.make(settings().database_session_url, folder, jobs)
    except psycopg.OperationalError as error:
        raise Problem(f"PostgreSQL does not answer: {str(error).strip()}", "Set DATABASE_URL.") from error
    typer.echo(f"{folder} holds {sum(manifest.rows.values())} rows of {len(manifest.rows)} tables, counted twice.")
