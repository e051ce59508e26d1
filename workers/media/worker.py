"""MediaWanted → the provider → our own copy of a customer's file in the blob store.

The message is stored already, and stays whatever becomes of its file. A lease lets one process fetch a file at a time;
a channel holds at most a share of a process's places, so that a host that hangs leaves places to the others.
"""

import asyncio
import contextlib
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from typing import IO

from shared import database
from shared.domain.media import Failure, key_of
from shared.media.blob_store import StoreError
from shared.media.download import Fetched
from shared.queue import topology
from shared.queue.jobs import MediaWanted
from shared.queue.worker import Context, Worker
from shared.resilience.bulkhead import BulkheadFull, wait_when_full
from shared.settings import Settings
from shared.store import media
from shared.store.media import Claim
from workers.media.clients import CONCURRENCY, Clients, open_clients
from workers.media.fetching import fetch_file, source_of
from workers.media.recording import record_failure, record_stored

STORE_TIMEOUT = 120.0  # seconds to store one file
MARGIN = 15.0  # seconds of the lease beyond both timeouts
COPIES_GONE = 3  # times that the copy is deleted while it is being stored; then the file is due again later
A_MOMENT = timedelta(seconds=2)

worker: Worker[MediaWanted, Clients] = Worker(
    name="media", queues=(topology.MEDIA,), consumes=(MediaWanted,), concurrency=CONCURRENCY, open=open_clients
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
        await record_failure(claim, ctx, Failure("cut_off"))
        return
    source = await source_of(claim, ctx)
    with _scratch(ctx.settings) as file:
        if isinstance(source, Failure):
            await record_failure(claim, ctx, source)
            return
        found = await fetch_file(claim, ctx, source, file)
        if isinstance(found, Failure):
            await record_failure(claim, ctx, found)
            return
        for _ in range(COPIES_GONE):
            there = await media.reserve(ctx.pool, claim.tenant_id, found.sha256, found.size, lease)
            if there is None:
                await media.release(ctx.pool, claim, A_MOMENT)
                return
            if not there and not await _put(claim, ctx, found, file):
                await record_failure(claim, ctx, Failure("store"))
                return
            if await database.repeat(lambda: record_stored(claim, ctx, found)):
                return
        await media.release(ctx.pool, claim, A_MOMENT)


def _scratch(settings: Settings) -> IO[bytes]:
    """A temporary file without a name: a killed process leaves nothing of it."""
    return tempfile.TemporaryFile(dir=settings.state_dir)


async def _put(claim: Claim, ctx: Context[Clients], found: Fetched, file: IO[bytes]) -> bool:
    """Write the file into the blob store; False where that fails."""
    try:
        async with asyncio.timeout(STORE_TIMEOUT):
            await ctx.resource.blobs.put(key_of(claim.tenant_id, found.sha256), file)
    except (*StoreError, TimeoutError) as error:
        ctx.log.warning("the blob store did not take a file", error=type(error).__name__)
        return False
    return True
