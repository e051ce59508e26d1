"""Counts whom a channel writes to by template outside the window, and applies what Meta says of its messaging limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns import tier
from shared.domain.channels import Channel
from shared.store import channels
from shared.store.campaigns import tier as uses
from shared.store.events import Event, record


@dataclass(frozen=True, slots=True)
class ChannelLimit:
    """The messaging limit of a channel's portfolio, as its provider says; None: it has none."""

    tenant_id: UUID
    channel_id: UUID
    people: int | None


async def count(connection: Connection, channel: Channel, conversations: Sequence[UUID]) -> None:
    """Count the people of these conversations of the channel, which the caller has locked: each gets a template now,
    outside the window. Runs no statement where the channel has no limit."""
    portfolio = tier.portfolio_of(channel)
    if portfolio is not None and conversations:
        await uses.use(connection, channel.tenant_id, portfolio.name, conversations)


async def count_each(connection: Connection, uses: Sequence[tuple[Channel, UUID]]) -> None:
    """As `count`, for (channel, conversation) of several channels; in one order, so that no two callers deadlock."""
    by_portfolio: dict[tuple[UUID, str], tuple[Channel, list[UUID]]] = {}
    for channel, conversation in uses:
        if (portfolio := tier.portfolio_of(channel)) is not None:
            key = (channel.tenant_id, portfolio.name)
            by_portfolio.setdefault(key, (channel, []))[1].append(conversation)
    for _, (channel, conversations) in sorted(by_portfolio.items(), key=lambda item: item[0]):
        await count(connection, channel, conversations)


async def apply(connection: Connection, limits: Sequence[ChannelLimit]) -> None:
    """Write the limits into the settings of these channels, the last one of each, with the event `channel.updated` for
    each one that differs."""
    latest = {(one.tenant_id, one.channel_id): one.people for one in limits}
    changed = await channels.set_messaging_limits(connection, latest) if latest else []
    await record(connection, *(Event("channel.updated", tenant_id, channel_id) for tenant_id, channel_id in changed))
