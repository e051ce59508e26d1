"""Handles rows of many tenants one by one, so that a row that fails holds up no other and is logged and counted."""

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar
from uuid import UUID

from shared import database
from shared.process import metrics
from shared.process.log import get_logger

log = get_logger(__name__)


class _OfTenant(Protocol):
    @property
    def tenant_id(self) -> UUID: ...


T = TypeVar("T", bound=_OfTenant)


@asynccontextmanager
async def isolated(what: str, **about: str) -> AsyncIterator[None]:
    """Log and count an error of the block instead of raising it. `what` names the kind of row in log and metric.

    Outages and conflicts are raised. A row that another session locks is logged only: it is no fault of the row's, and
    its next turn comes.
    """
    try:
        yield
    except database.LockTimeout:
        log.warning("row skipped: another session locks it", what=what, **about)
    except Exception as error:
        if database.is_outage(error) or database.is_conflict(error):
            raise
        skipped(what, error, **about)


def skipped(what: str, error: BaseException, **about: str) -> None:
    """Log and count a row that can't be handled, without the error's text, which may quote what a tenant wrote."""
    metrics.ROWS_SKIPPED.labels(what).inc()
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = [f"{part.name}:{part.lineno}" for part in frame]
    log.error("row skipped: it can't be handled", what=what, error=" ".join([type(error).__name__, *where]), **about)


async def each(
    what: str, connection: database.Connection, rows: Iterable[T], handle: Callable[[T], Awaitable[None]]
) -> list[T]:
    """Handle the rows of one transaction, each in a savepoint of its own; returns those that could not be handled.

    After a row that another session locks, the next rows of its tenant are not tried: each might wait as long. Outages
    and conflicts are raised.
    """
    left: list[T] = []
    locked: set[UUID] = set()  # tenants
    for row in rows:
        if row.tenant_id in locked:
            left.append(row)
            continue
        try:
            async with connection.transaction():
                await handle(row)
        except database.LockTimeout:
            locked.add(row.tenant_id)
            left.append(row)
            log.warning("row skipped: another session locks it", what=what, tenant=str(row.tenant_id))
        except Exception as error:
            if database.is_outage(error) or database.is_conflict(error):
                raise
            skipped(what, error, tenant=str(row.tenant_id))
            left.append(row)
    return left
