"""Counts what customers write against their channel's rate, where the provider does: a campaign leaves room for it."""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from shared.domain.channels import Channel
from shared.providers import provider, rate_of
from shared.queue.worker import Context
from shared.store import rate_limits
from shared.store.rate_limits import Inbound
from workers.persist.parsing import ParsedWebhook


async def count(stored: Sequence[ParsedWebhook], ctx: Context[None]) -> None:
    """Let campaigns leave room for the messages of these webhooks. Its own failure only lets a campaign be too fast."""
    channels: dict[UUID, Channel] = {}
    messages: Counter[UUID] = Counter()
    for parsed in stored:
        if provider(parsed.webhook.provider).counts_inbound and not parsed.webhook.replayed:
            for channel, _ in parsed.messages:
                channels[channel.id] = channel
                messages[channel.id] += 1
    if not channels:
        return
    written = [
        Inbound(channel.tenant_id, channel.id, messages[channel.id], rate_of(channel)) for channel in channels.values()
    ]
    try:
        await rate_limits.count_inbound(ctx.pool, written)
    except Exception as error:
        ctx.log.warning("inbound messages not counted against the rate", error=type(error).__name__)
