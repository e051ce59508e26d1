"""What the tests stand on: a real broker and a real database of their own, an empty piece of each per test.

The stack lives in a folder `test` of `.palomar`, or of shared memory, and starts when the first test asks for it; a
running `palomar up` is never touched. Of the processes that run tests beside each other each has a stack of its own, so
that a test may take it down. A test's database is a clone of one that was migrated once, and its broker a virtual host;
both go on to a later test, emptied and compared with what a new one holds.
"""

import os
import secrets
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from ops.errors import Problem
from ops.local import kept_stack
from ops.local.stack import Stack
from shared.settings import Settings
from tests.support.databases import cloned, kept_template, migrated, pristine
from tests.support.server_folders import forget, servers_folder
from tests.support.vhosts import Vhosts

hypothesis.settings.register_profile("palomar", deadline=None)  # a busy machine makes no example wrong
hypothesis.settings.load_profile("palomar")

pytest_plugins = ["tests.support.stack_dumps", "tests.support.exclusive"]

STATE = Path(__file__).resolve().parent.parent / ".palomar"
STACKS_AT_ONCE = 16


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A broker and a database, running. A test may kill and restart them, and leaves them running."""
    if kept := os.environ.get(kept_stack.VARIABLE):
        yield kept_stack.attached(Path(kept))
        return
    started = _start_free_stack()
    try:
        yield started
    finally:
        started.rabbitmq.kill()  # takes no time, and nothing of it is kept
        started.postgres.stop()
        started.rabbitmq.forget()
        if not request.session.testsfailed:  # whose reader may want the servers' logs
            forget(started.root)
        started.stop()


def _start_free_stack() -> Stack:
    """Each process that runs tests at the same time gets a state folder of its own."""
    folder = servers_folder(STATE)
    for number in range(1, STACKS_AT_ONCE + 1):
        stack = Stack(folder / ("test" if number == 1 else f"test-{number}"))
        if stack.claim():
            stack.start()
            return stack
    raise Problem(f"{STACKS_AT_ONCE} processes run tests here already.", "Wait for one of them to end.")


@pytest.fixture(scope="session")
def template(stack: Stack) -> Iterator[str]:
    """The name of a migrated, empty database that others are cloned from; made anew where no stack is kept."""
    if kept_stack.VARIABLE not in os.environ:
        yield migrated(stack.postgres)
        return
    name = kept_template(stack.postgres)
    yield name
    pristine(stack.postgres, name).close()


@pytest.fixture
def database_url(stack: Stack, template: str) -> Iterator[str]:
    """A migrated, empty database for this test alone; the URL is its owner's, who is no superuser."""
    with cloned(stack.postgres, template) as url:
        yield url


@pytest.fixture(scope="session")
def vhosts(stack: Stack) -> Iterator[Vhosts]:
    made = Vhosts(stack.rabbitmq)
    yield made
    if kept_stack.VARIABLE in os.environ:
        made.close()


@pytest.fixture
def amqp_url(stack: Stack, vhosts: Vhosts) -> Iterator[str]:
    """A virtual host for this test alone, without a message; our queues may be declared: tests/support/vhosts.py."""
    name = vhosts.take()
    yield stack.rabbitmq.vhost_url(name)  # now: a broker that was started again may have another port
    vhosts.give_back(name)


@pytest.fixture
def environment(amqp_url: str, database_url: str, tmp_path: Path) -> dict[str, str]:
    """The variables that configure a process for this test's broker and database; add to them at will."""
    return {
        "AMQP_URL": amqp_url,
        "DATABASE_URL": database_url,
        "PALOMAR_STATE_DIR": str(tmp_path),
        "PALOMAR_SECRET_KEYS": f"test:{b64encode(secrets.token_bytes(32)).decode()}",
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The same configuration as `environment`, for code that runs inside the test. Vary it with `model_copy`."""
    return Settings(
        _env_file=None,
        amqp_url=environment["AMQP_URL"],
        database_url=environment["DATABASE_URL"],
        state_dir=environment["PALOMAR_STATE_DIR"],
        secret_keys=environment["PALOMAR_SECRET_KEYS"],
    )
