"""Rows of many tenants, each handled by itself: one that fails keeps no other waiting, and does not go unseen."""

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar
from uuid import UUID

from shared import database
from shared.process import metrics
from shared.process.log import get_logger

log = get_logger(__name__)


class _Tenants(Protocol):
    @property
    def tenant_id(self) -> UUID: ...


T = TypeVar("T", bound=_Tenants)


@asynccontextmanager
async def by_itself(what: str, **about: str) -> AsyncIterator[None]:
    """Set apart what fails in here: its reason is logged and `what` is counted. An outage and a conflict are raised.

    A row that somebody holds is for the next time, and no fault of its own.
    """
    try:
        yield
    except database.LockTimeout:
        log.warning("somebody holds a row; the others go on", what=what, **about)
    except Exception as error:
        if database.is_outage(error) or database.is_conflict(error):
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


async def each(
    what: str, connection: database.Connection, rows: Iterable[T], handle: Callable[[T], Awaitable[None]]
) -> list[T]:
    """Handle these rows of one transaction, each within a savepoint of its own; returns those that could not be.

    Where somebody holds what a row needs, the next ones of its tenant's are not tried: each might wait as long. An
    outage and a conflict are raised.
    """
    left: list[T] = []
    holding: set[UUID] = set()
    for row in rows:
        if row.tenant_id in holding:
            left.append(row)
            continue
        try:
            async with connection.transaction():
                await handle(row)
        except database.LockTimeout:
            holding.add(row.tenant_id)
            left.append(row)
            log.warning("somebody holds a row; the others go on", what=what, tenant=str(row.tenant_id))
        except Exception as error:
            if database.is_outage(error) or database.is_conflict(error):
                raise
            set_apart(what, error, tenant=str(row.tenant_id))
            left.append(row)
    return left
