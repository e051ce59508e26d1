"""Fetches a customer's file from where its provider keeps it, or from the webhook that it came in."""

import asyncio
from typing import IO

from shared.crypto import CryptoError
from shared.domain.media import Failure
from shared.media.download import Fetched
from shared.providers import provider
from shared.providers.media_source import Direct, InWebhook, Located, Source
from shared.queue.worker import Context
from shared.store import channels, media
from shared.store.media import Claim
from workers.media.clients import Clients


async def source_of(claim: Claim, ctx: Context[Clients]) -> Source:
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


async def fetch_file(
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
