"""palomar verify: check the schema, its roles and its policies against what Palomar and its users need."""

import psycopg
import typer

from ops import terminal
from ops.errors import Problem
from schema import findings
from schema import verify as verifying
from shared.settings import settings


def verify() -> None:
    """Show every check with ✓ or ✗, what is wrong and what to do. Exit code 1 on any ✗."""
    try:
        found = verifying.verify(settings().database_session_url)
    except psycopg.OperationalError as error:
        raise Problem(
            f"PostgreSQL does not answer: {str(error).strip()}", "Run ./palomar up, or set DATABASE_URL."
        ) from error
    terminal.console().print(findings.as_table(found))
    typer.echo(findings.verdict(found))
    if not all(finding.ok for finding in found):
        raise typer.Exit(1)
