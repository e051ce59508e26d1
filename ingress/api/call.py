"""What a handler is given beside its input: whose call it is, the transaction, and what to publish afterwards."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from ingress.api.caller import Caller
from ingress.api.live.engine import Live
from ingress.api.problems import VERSION_MISMATCH, Problem
from shared.crypto import KeyRing
from shared.database import Connection
from shared.queue.jobs import Job
from shared.settings import Settings

ANY: str = "*"  # the If-Match that any version satisfies
APART: Final = "-"  # in a version, before what changes without a change of the row
_APART: Final = re.compile(f'{APART}[^"]*')


def version(updated_at: datetime, apart: str = "") -> str:
    """The version of a row, as ETag and If-Match write it: the microsecond of its last change.

    `apart` is a digest of what changes without a change of the row. If-Match does not look at it.
    """
    changed = f"{int(updated_at.astimezone(UTC).timestamp() * 1_000_000):x}"
    return f'"{changed}{APART}{apart}"' if apart else f'"{changed}"'


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file that comes as the body of a request, while it comes: reading it may raise a Problem."""

    content_type: str  # one of those that the procedure takes
    chunks: AsyncIterator[bytes]


@dataclass(slots=True)
class Call:
    """One call of a procedure."""

    procedure: str  # its name
    caller: Caller
    settings: Settings
    keys: KeyRing
    live: Live
    begin: Callable[[], AbstractAsyncContextManager[Connection]]
    own_tenant: UUID | None  # None for an operator's procedure
    if_match: str | None = None  # the header, where the transport has one
    idempotency_key: str | None = None  # of this call, as `idempotency` has checked it
    _connection: Connection | None = None
    jobs: list[Job] = field(default_factory=list)

    @property
    def tenant_id(self) -> UUID:
        """The tenant whose rows this call sees. An operator's procedure has none, and may not ask."""
        assert self.own_tenant is not None, "an operator's procedure spans tenants"
        return self.own_tenant

    @property
    def connection(self) -> Connection:
        """The call's transaction: as palomar_api and of its tenant, or as palomar_worker for an operator's procedure.

        It commits once the answer is made. What works outside of it (a subscription, an upload, `outside` of a
        procedure) opens one of its own.
        """
        assert self._connection is not None, "no transaction is open here"
        return self._connection

    @asynccontextmanager
    async def in_transaction(self) -> AsyncIterator[None]:
        """Run a block in a transaction, which is the call's `connection` meanwhile and is committed at its end."""
        async with self.begin() as self._connection:
            try:
                yield
            finally:
                self._connection = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Another transaction of the same tenant and role, committed at its end: for what streams."""
        async with self.begin() as connection:
            yield connection

    def publish(self, *jobs: Job) -> None:
        """Publish jobs once the transaction has committed. They are hints: the rows' due times are the promise."""
        self.jobs.extend(jobs)

    def expect_version(self, updated_at: datetime) -> None:
        """Raise the problem that answers an If-Match that names another version of a row than this one."""
        if self.if_match is None or self.if_match.strip() == ANY:
            return
        present = version(updated_at)
        given = (one.strip().removeprefix("W/") for one in self.if_match.split(","))
        if present not in (_APART.sub("", one) for one in given):
            raise Problem(
                VERSION_MISMATCH,
                "It has changed since the version that If-Match names. Get it again, and repeat the change.",
                headers={"ETag": present},
            )
