"""A second installation in the same cluster: roles belong to all databases of it, and another owner made them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from ops.local.stack import Stack
from schema import migrate
from tests.support.commands import palomar

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def second(stack: Stack, template: str) -> Iterator[tuple[str, str]]:
    """A new role and its own empty database, beside a migrated one; the role's name and the database's URL."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(stack.postgres.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER CREATEROLE").format(sql.Identifier(name)))
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*map(sql.Identifier, (name, name))))
        yield name, stack.postgres.url(name, name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def migrated(url: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return palomar({"DATABASE_URL": url, "PALOMAR_STATE_DIR": str(folder)}, "migrate")


def test_migrate_names_the_grant_that_a_second_database_needs(
    stack: Stack, second: tuple[str, str], tmp_path: Path
) -> None:
    name, url = second
    first = migrated(url, tmp_path)
    assert first.returncode == 1
    grant = f'GRANT "palomar_api", "palomar_worker" TO "{name}" WITH ADMIN TRUE, INHERIT FALSE, SET TRUE;'
    assert f"{name} may not take and grant palomar_api, palomar_worker" in first.stderr
    assert grant in first.stderr
    with pytest.raises(psycopg.OperationalError, match="permission denied to set role"):
        psycopg.connect(url, options="-c role=palomar_worker")

    with psycopg.connect(stack.postgres.admin_url, autocommit=True) as admin:
        admin.execute(grant.encode())
    again = migrated(url, tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    with psycopg.connect(url, options="-c role=palomar_worker") as worker:
        assert worker.execute("SELECT current_user").fetchone() == ("palomar_worker",)


def test_a_membership_without_the_right_to_take_the_role_is_not_enough(
    stack: Stack, second: tuple[str, str], tmp_path: Path
) -> None:
    name, url = second
    with psycopg.connect(stack.postgres.admin_url, autocommit=True) as admin:
        if admin.info.server_version < 160000:
            pytest.skip("before PostgreSQL 16 every membership has that right")
        admin.execute(sql.SQL("GRANT palomar_api, palomar_worker TO {} WITH SET FALSE").format(sql.Identifier(name)))
    with pytest.raises(migrate.NotGranted, match="may not take and grant palomar_api, palomar_worker"):
        migrate.apply(url)
