"""Finds out whose key a request carries: form and check digits, then prefix and hash, then expiry."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from prometheus_client import Counter

from ingress.api.problems import FORBIDDEN, TOO_MANY_REQUESTS, UNAUTHENTICATED, Problem
from ingress.api.rate_limits import Bucket, Buckets
from shared.database import Pool
from shared.domain import api_keys
from shared.http.sources import network
from shared.process.log import get_logger
from shared.store import api_keys as store
from shared.store.api_keys import ApiKey

log = get_logger(__name__)

REFUSED: Final = Counter("palomar_api_keys_refused", "Requests without a valid key", ["reason"])

REMEMBERED: Final = 5.0  # seconds; for so long a revoked key may go on in a process that knew it
MOST_REMEMBERED: Final = 10_000
GUESSES: Final = 20  # wrong keys that an address may try in:
GUESS_WINDOW: Final = 60.0  # seconds
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="palomar"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever holds a valid key."""

    key_id: UUID
    tenant_id: UUID | None  # None: an operator
    scopes: frozenset[str]
    expires_at: datetime | None
    bucket: Bucket = field(repr=False)

    @property
    def is_operator(self) -> bool:
        return self.tenant_id is None

    @property
    def number(self) -> int:
        """Against whose bound its bodies count: its tenant's, or its own."""
        return (self.tenant_id or self.key_id).int

    def require(self, scope: str, *, operator: bool) -> None:
        """Raise the problem of a key that may not do what needs this scope."""
        if operator and not self.is_operator:
            raise Problem(FORBIDDEN, "Only an operator's key may do this: palomar keys add --operator.")
        if not api_keys.allows(self.scopes, scope):
            raise Problem(FORBIDDEN, f"This key lacks the scope {scope}. Create a key that has it.")

    def count(self) -> None:
        """Count one call against the key's rate limit. Raises the problem of one too many."""
        now = time.monotonic()
        if not self.bucket.take(now):
            raise Problem(
                TOO_MANY_REQUESTS,
                f"This key may call {self.bucket.quota} times in {self.bucket.window:g} seconds.",
                retry_after=self.bucket.wait(now),
            )

    def rate_limit_headers(self) -> dict[str, str]:
        return self.bucket.headers(time.monotonic())


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    until: float  # by the monotonic clock


class Authenticator:
    """Knows callers by their keys, and remembers each for a few seconds."""

    def __init__(self, pool: Pool, *, patience: float, quota: int, window: float) -> None:
        """`pool` works as palomar_worker: a key is looked up before its tenant is known. It is for look-ups alone, so
        that none waits for a slow call; one that waits `patience` seconds for a connection raises TimeoutError.
        `quota` calls a key may make in `window` seconds."""
        self._pool = pool
        self._patience = patience
        self._calls = Buckets(quota, window)
        self._guesses = Buckets(GUESSES, GUESS_WINDOW)
        self._known: dict[bytes, _Known] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def caller(self, key: str | None, address: str | None) -> Caller:
        """The caller with this key. Raises a Problem; an outage of the database is raised as it is."""
        now = time.monotonic()
        digest = api_keys.digest_of(key) if key and len(key) == api_keys.LENGTH and key.isascii() else b""
        known = self._known.get(digest)
        if known is None or known.until <= now:
            guesses = self._guesses.of(network(address), now)
            if guesses.is_empty(now):  # for all but the keys that are in use here: one address may be a whole office's
                REFUSED.labels("guessing").inc()
                raise Problem(
                    TOO_MANY_REQUESTS, "Too many wrong keys came from this address.", retry_after=guesses.wait(now)
                )
            if not key:
                raise self._refusal("missing", "Send your key in the header: Authorization: Bearer plm_…", address)
            if not api_keys.is_well_formed(key):
                raise self._refusal("mistyped", "This is no key of ours, or not all of one: compare it.", address)
            known = await self._look_up(key, digest, now, address)
        expires_at = known.caller.expires_at
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise self._refusal("expired", "This key has expired. Create another one.", address)
        return known.caller

    async def _look_up(self, key: str, digest: bytes, now: float, address: str | None) -> _Known:
        async with self._pool.acquire(timeout=self._patience) as connection:
            stored = await store.find(connection, api_keys.prefix_of(key), digest)
        if stored is None:
            self._known.pop(digest, None)
            raise self._refusal("unknown", "No one has this key, or it has been revoked.", address)
        caller = Caller(
            stored.id, stored.tenant_id, frozenset(stored.scopes), stored.expires_at, self._calls.of(stored.id, now)
        )
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        known = self._known[digest] = _Known(caller, now + REMEMBERED)
        task = asyncio.create_task(self._note_use(stored))  # no call waits for it
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)
        return known

    async def _note_use(self, key: ApiKey) -> None:
        try:
            async with self._pool.acquire(timeout=self._patience) as connection:
                await store.note_use(connection, key)
        except Exception as error:  # it is for people to look at; the next look-up notes it
            log.info("last use of a key not noted", error=type(error).__name__)

    def _refusal(self, reason: str, detail: str, address: str | None) -> Problem:
        now = time.monotonic()
        if reason in ("mistyped", "unknown"):
            self._guesses.of(network(address), now).take(now)
            log.info("key refused", reason=reason, client=address)
        REFUSED.labels(reason).inc()
        return Problem(UNAUTHENTICATED, detail, headers=_CHALLENGE)
