"""MediaWanted → the provider → our own copy of a customer's file in the blob store.

The message is stored already, and stays whatever becomes of its file. A lease lets one process fetch a file at a time;
a channel holds at most a share of a process's places, so that a host that hangs leaves places to the others.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import IO

from shared import database
from shared.crypto import CryptoError, KeyRing
from shared.domain.media import Failure, Limits, key_of, wait_after
from shared.media.blob_store import Blobs, StoreError
from shared.media.download import Fetched, Fetcher
from shared.process import metrics
from shared.providers import provider
from shared.providers.media_source import Direct, InWebhook, Located, Source
from shared.queue import topology
from shared.queue.jobs import MediaWanted
from shared.queue.worker import Context, Worker
from shared.resilience.bulkhead import Bulkhead, BulkheadFull, wait_when_full
from shared.settings import Settings
from shared.store import channels, media
from shared.store.events import Event, record
from shared.store.media import Claim

CONCURRENCY = 16  # most of them wait for the provider's server
SHARE = CONCURRENCY // 4  # of these, for one channel
STORE_TIMEOUT = 120.0  # seconds to store one file
MARGIN = 15.0  # seconds of the lease beyond both timeouts
WEBHOOKS_AT_ONCE = 2  # in memory as a whole, for files that came in them: a mail may have 30 MB
COPIES_GONE = 3  # times that the copy is deleted while it is being stored; then the file is due again later
A_MOMENT = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Clients:
    """This process's clients for fetching and storing files, and their limits."""

    fetcher: Fetcher
    blobs: Blobs
    keys: KeyRing
    bulkhead: Bulkhead
    webhooks: asyncio.Semaphore


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Clients]:
    keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with Fetcher(
        settings.trusted_origins, Limits.of(settings), settings.https_proxy.get_secret_value() or None
    ) as fetcher:
        yield Clients(fetcher, Blobs.of(settings), keys, Bulkhead(SHARE), asyncio.Semaphore(WEBHOOKS_AT_ONCE))


worker: Worker[MediaWanted, Clients] = Worker(
    name="media", queues=(topology.MEDIA,), consumes=MediaWanted, concurrency=CONCURRENCY, open=_open
)


@worker.handle
async def fetch(wanted: MediaWanted, ctx: Context[Clients]) -> None:
    lease = timedelta(seconds=ctx.settings.media_timeout + STORE_TIMEOUT + MARGIN)
    with ExitStack() as acquired:
        async with ctx.transaction() as tx:
            claim = await media.claim(tx, wanted.tenant_id, wanted.media_id, lease)
            if claim is None:
                return
            try:
                acquired.enter_context(ctx.resource.bulkhead.acquire(claim.channel_id))
            except BulkheadFull:
                await media.release(tx, claim, wait_when_full(claim.waited))
                return
        try:
            await _bring(claim, ctx, lease)
        except BaseException:
            # Cancelled or failed: another process may try at once, rather than after the lease.
            with contextlib.suppress(Exception):
                await media.release(ctx.pool, claim, timedelta(seconds=1))
            raise


@worker.postpone
async def postpone(wanted: MediaWanted, ctx: Context[Clients], wait: timedelta | None) -> None:
    await media.postpone(ctx.pool, wanted.tenant_id, wanted.media_id, wait)


async def _bring(claim: Claim, ctx: Context[Clients], lease: timedelta) -> None:
    """Fetch the file and store it, and record that or the failure."""
    if claim.attempts > ctx.settings.media_attempts:  # the process of the last attempt never recorded its end
        await _say_failed(claim, ctx, Failure("cut_off"))
        return
    source = await _source(claim, ctx)
    with _scratch(ctx.settings) as file:
        if isinstance(source, Failure):
            await _say_failed(claim, ctx, source)
            return
        found = await _fetched(claim, ctx, source, file)
        if isinstance(found, Failure):
            await _say_failed(claim, ctx, found)
            return
        for _ in range(COPIES_GONE):
            there = await media.reserve(ctx.pool, claim.tenant_id, found.sha256, found.size, lease)
            if there is None:
                await media.release(ctx.pool, claim, A_MOMENT)
                return
            if not there and not await _put(claim, ctx, found, file):
                await _say_failed(claim, ctx, Failure("store"))
                return
            if await database.repeat(lambda: _say_stored(claim, ctx, found)):
                return
        await media.release(ctx.pool, claim, A_MOMENT)


def _scratch(settings: Settings) -> IO[bytes]:
    """A temporary file without a name: a killed process leaves nothing of it."""
    return tempfile.TemporaryFile(dir=settings.state_dir)


async def _source(claim: Claim, ctx: Context[Clients]) -> Source:
    """Where to get the file, by the channel's provider."""
    try:
        sealed = await channels.credentials(ctx.pool, claim.tenant_id, claim.channel_id)
        opened = ctx.resource.keys.open(sealed, tenant_id=claim.tenant_id, owner=claim.channel_id) if sealed else ""
    except CryptoError:
        opened = ""
    try:
        return provider(claim.provider).media_source(claim.media, opened, ctx.settings)
    except ValueError:
        return Failure("credentials")


async def _fetched(
    claim: Claim, ctx: Context[Clients], source: Direct | Located | InWebhook, file: IO[bytes]
) -> Fetched | Failure:
    if isinstance(source, InWebhook):
        return await _from_webhook(claim, ctx, source, file)
    try:
        return await ctx.resource.fetcher.fetch(source, file, ctx.settings.media_timeout)
    except OSError:  # of our own disk: the fetcher handles all others
        return Failure("store")


async def _from_webhook(claim: Claim, ctx: Context[Clients], source: InWebhook, file: IO[bytes]) -> Fetched | Failure:
    async with ctx.resource.webhooks:
        webhook = await media.webhook(ctx.pool, claim.inbound_id) if claim.inbound_id is not None else None
        part = await asyncio.to_thread(source.read, *webhook) if webhook is not None else None
        if part is None:
            return Failure("gone")
        try:
            return await ctx.resource.fetcher.take(part, claim.media.mime_type, file)
        except OSError:
            return Failure("store")


async def _put(claim: Claim, ctx: Context[Clients], found: Fetched, file: IO[bytes]) -> bool:
    """Write the file into the blob store; False where that fails."""
    try:
        async with asyncio.timeout(STORE_TIMEOUT):
            await ctx.resource.blobs.put(key_of(claim.tenant_id, found.sha256), file)
    except (*StoreError, TimeoutError) as error:
        ctx.log.warning("the blob store did not take a file", error=type(error).__name__)
        return False
    return True


async def _say_stored(claim: Claim, ctx: Context[Clients], found: Fetched) -> bool:
    """Record the copy; False where it was deleted meanwhile and has to be stored again."""
    async with ctx.transaction() as tx:
        done = await media.stored(tx, claim, found.sha256, found.size, found.mime_type)
        if done:
            await record(tx, _event("media.stored", claim, size=found.size))
    if done:
        metrics.MEDIA.labels(claim.provider, "stored").inc()
    return done is not None


async def _say_failed(claim: Claim, ctx: Context[Clients], failure: Failure) -> None:
    """Record why there is no copy, or when the next try is due."""
    status = failure.ends_after(claim.attempts, ctx.settings.media_attempts)
    metrics.MEDIA.labels(claim.provider, failure.reason).inc()
    if status is None:
        wait = wait_after(failure, claim.attempts, ctx.settings.media_retry_first)
        await media.try_again(ctx.pool, claim, failure.reason, timedelta(seconds=wait))
        return

    async def once() -> None:
        async with ctx.transaction() as tx:
            if await media.end(tx, claim, status, failure.reason):
                await record(tx, _event(f"media.{status}", claim, reason=failure.reason))

    await database.repeat(once)


def _event(name: str, claim: Claim, **detail: str | int) -> Event:
    facts = {"media_id": str(claim.id), **detail}
    return Event(name, claim.tenant_id, claim.channel_id, claim.conversation_id, claim.message_id, detail=facts)
