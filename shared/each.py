"""Rows of many tenants, each handled by itself: one that fails keeps no other waiting, and does not go unseen."""

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from shared import db, metrics
from shared.log import get_logger

log = get_logger(__name__)

T = TypeVar("T")


@asynccontextmanager
async def by_itself(what: str, **about: str) -> AsyncIterator[None]:
    """Set apart what fails in here: its reason is logged and `what` is counted. An outage and a conflict are raised."""
    try:
        yield
    except Exception as error:
        if db.is_outage(error) or db.is_conflict(error):
            raise
        set_apart(what, error, **about)


def set_apart(what: str, error: BaseException, **about: str) -> None:
    """Log and count a row that can't be handled. Not by the error's text, which may quote what a tenant wrote."""
    metrics.ROWS_SET_APART.labels(what).inc()
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = [f"{part.name}:{part.lineno}" for part in frame]
    log.error(
        "a row can't be handled; the others go on", what=what, error=" ".join([type(error).__name__, *where]), **about
    )


async def each(what: str, connection: db.Connection, rows: Iterable[T], handle: Callable[[T], Awaitable[None]]) -> None:
    """Handle these rows of one transaction, each within a savepoint of its own. An outage and a conflict are raised."""
    for row in rows:
        async with by_itself(what), connection.transaction():
            await handle(row)
