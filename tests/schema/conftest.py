"""A tenant's people at work with SQL, as the replaced systems' users are used to.

On two servers: our own, and the oldest PostgreSQL that the machine's distribution has and we work with. Each test runs
on ours. On the other one the suite runs what the users' documents do, and that a migrated database passes `verify`;
`palomar soak` runs the rest there.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import sqlparse
from sqlparse import split as sqlparse_split

from ops.local.postgres import Postgres
from ops.local.stack import Stack, tell
from tests.schema.office import Office
from tests.support import debian
from tests.support.databases import cloned, migrated


@cache
def _split(*arguments: Any) -> tuple[str, ...]:
    return tuple(sqlparse_split(*arguments))


def split(sql: str, encoding: str | None = None, strip_semicolon: bool = False) -> list[str]:
    """As sqlparse's. yoyo splits each migration twice a run; these tests run the same files hundreds of times."""
    return list(_split(sql, encoding, strip_semicolon))


sqlparse.split = split

FOLDER: Final = Path(__file__).parent
ON_BOTH: Final = (
    "test_database_migration_guide.py", "test_database_setup.py", "test_documentation.py", "test_queue_template.py",
    "test_twilio_integration_guide.py", "test_twilio_migration.py", "test_whatsapp_module_migration.py",
    "test_a_migrated_database_is_right_in_every_line",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        on_both = item.path.name in ON_BOTH or item.name.partition("[")[0] in ON_BOTH
        if item.path.parent == FOLDER and "[distributed" in item.name and not on_both:
            item.add_marker(pytest.mark.soak)
    _on_the_other_server_first(items)


def _on_the_other_server_first(items: list[pytest.Item]) -> None:
    """Each process of the suite that meets one of these starts that server; so they stand together."""
    places = [place for place, item in enumerate(items) if item.path.parent == FOLDER]
    ours = sorted((items[place] for place in places), key=lambda item: "[distributed" not in item.name)
    for place, item in zip(places, ours, strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def distributed(stack: Stack) -> Iterator[Postgres]:
    """A server of the distribution's PostgreSQL, with data of its own."""
    root = stack.root / "distributed"
    root.mkdir(mode=0o711, exist_ok=True)
    server = Postgres(root, tell, debian.postgres())
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def distributed_template(distributed: Postgres) -> str:
    return migrated(distributed)


@pytest.fixture(params=["ours", "distributed"])
def postgres(request: pytest.FixtureRequest, stack: Stack) -> Postgres:
    """The server that this test's database is on."""
    if request.param == "ours":
        return stack.postgres
    server: Postgres = request.getfixturevalue("distributed")
    return server


@pytest.fixture
def database_url(request: pytest.FixtureRequest, stack: Stack, postgres: Postgres) -> Iterator[str]:
    """A fresh, migrated database for this test alone; the URL is its owner's, who is no superuser."""
    template: str = request.getfixturevalue("template" if postgres is stack.postgres else "distributed_template")
    with cloned(postgres, template) as url:
        yield url


@pytest.fixture
def office(database_url: str) -> Office:
    """A tenant with no channel yet."""
    return Office(database_url)
