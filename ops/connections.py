"""Connects a command to the running system for one session; an outage becomes a Problem instead of a traceback."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg

from ops.errors import Problem
from shared import database as db
from shared.database import roles
from shared.process import log
from shared.queue.connection import AccessRefused, BrokerAway, PublishFailed
from shared.queue.publisher import Publisher
from shared.settings import Settings

T = TypeVar("T")
PATIENCE = 5.0  # seconds a session waits for the broker
NO_BROKER = ("RabbitMQ does not answer.", "Start it with ./palomar up, or set AMQP_URL.")
NO_DATABASE = ("PostgreSQL does not answer.", "Start it with ./palomar up, or set DATABASE_URL.")


def no_broker(error: BrokerAway) -> Problem:
    """Why the broker can't be used, and what to do."""
    if isinstance(error, AccessRefused):
        return Problem("RabbitMQ refuses the user or the password in AMQP_URL.", "Correct AMQP_URL.")
    return Problem(*NO_BROKER)


def run(session: Coroutine[Any, Any, T]) -> T:
    """Run it to its end. Raises Problem where the broker is away or doesn't confirm."""
    log.configure("palomar", "error")
    try:
        return asyncio.run(session)
    except BrokerAway as error:
        raise no_broker(error) from error
    except PublishFailed as error:
        raise Problem(f"RabbitMQ did not take it: {error}.", "See ./palomar status, then run this again.") from error


@asynccontextmanager
async def database(settings: Settings, name: str, lock_wait: float | None = None) -> AsyncIterator[db.Pool]:
    """A pool that has reached the database. Raises Problem for what PostgreSQL refuses, also inside the block.

    Statements that have waited `lock_wait` seconds for a lock raise db.LockTimeout.
    """
    async with db.make_pool(settings, process=name, size=2, lock_wait=lock_wait) as pool:
        try:
            await _reach(pool)
            yield pool
        except asyncpg.UndefinedTableError as error:
            raise Problem("The database has no tables of Palomar's.", "Make them with ./palomar migrate.") from error
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
            raise Problem(*NO_DATABASE) from error


@asynccontextmanager
async def transaction(pool: db.Pool) -> AsyncIterator[db.Connection]:
    """A transaction on a connection of the pool."""
    async with pool.acquire() as connection, connection.transaction():
        yield connection


async def _reach(pool: db.Pool) -> None:
    try:
        await pool.fetchval("SELECT 1")
    except roles.WrongRole as error:
        raise Problem(f"DATABASE_URL: {error}.", "Set both, or name PostgreSQL itself in DATABASE_URL.") from error
    except asyncpg.InvalidParameterValueError as error:  # the role to take at connect
        raise Problem(f"PostgreSQL refuses: {error}.", "Bring it up to date with ./palomar migrate.") from error
    except asyncpg.PostgresError as error:
        raise Problem(f"PostgreSQL refuses: {error}.", "Check DATABASE_URL.") from error
    except (OSError, TimeoutError) as error:
        raise Problem(*NO_DATABASE) from error


@asynccontextmanager
async def publisher(settings: Settings, name: str) -> AsyncIterator[Publisher]:
    """A publisher that is connected. Raises Problem where the broker does not answer."""
    made = Publisher(
        settings.amqp_url.get_secret_value(), name, timeout=settings.publish_timeout, delays=settings.retry_delays
    )
    await made.start()
    try:
        try:
            async with asyncio.timeout(PATIENCE):
                await made.wait_ready()
        except TimeoutError:
            raise Problem(*NO_BROKER) from None
        yield made
    finally:
        await made.close()
