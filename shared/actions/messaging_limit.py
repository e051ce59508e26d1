"""Counts whom a channel writes to by template outside the window, for the messaging limit of its portfolio."""

from collections.abc import Sequence
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns import tier
from shared.domain.channels import Channel
from shared.store.campaigns import tier as uses


async def count(connection: Connection, channel: Channel, conversations: Sequence[UUID]) -> None:
    """Count the people of these conversations of the channel, which the caller has locked: each gets a template now,
    outside the window. Runs no statement where the channel has no limit."""
    portfolio = tier.portfolio_of(channel)
    if portfolio is not None and conversations:
        await uses.use(connection, channel.tenant_id, portfolio.name, conversations)
