"""Records what became of a file: stored, to be tried again, or without a copy for good."""

from datetime import timedelta

from shared import database
from shared.domain.media import Failure, wait_after
from shared.media.download import Fetched
from shared.process import metrics
from shared.queue.worker import Context
from shared.store import media
from shared.store.events import Event, record
from shared.store.media import Claim
from workers.media.clients import Clients


async def record_stored(claim: Claim, ctx: Context[Clients], found: Fetched) -> bool:
    """Record the copy; False where it was deleted meanwhile and has to be stored again."""
    async with ctx.transaction() as tx:
        done = await media.stored(tx, claim, found.sha256, found.size, found.mime_type)
        if done:
            await record(tx, _event("media.stored", claim, size=found.size))
    if done:
        metrics.MEDIA.labels(claim.provider, "stored").inc()
    return done is not None


async def record_failure(claim: Claim, ctx: Context[Clients], failure: Failure) -> None:
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
