"""Keeps the channels that a process sends through for a moment, so that not every message reads its channel again.

A claim is refused once the channel's row has changed since it was read, or its tenant is gone. So what is kept here may
be old, and nothing is sent by it. Only active channels are kept: what the gates write about a message that does not
leave is decided by the row as it is.
"""

import time
from typing import Final
from uuid import UUID

from shared.database import Pool
from shared.domain.channels import Channel
from shared.store import channels

MAX_AGE: Final = 2.0  # seconds; a rate that is too low keeps messages from their claims, which would find it old
MOST: Final = 10_000  # channels; then all are read again


class ChannelCache:
    """Of one process."""

    def __init__(self) -> None:
        self._read: dict[UUID, tuple[float, Channel]] = {}

    async def get(self, pool: Pool, tenant_id: UUID, channel_id: UUID) -> Channel | None:
        """The channel, as it is or was a moment ago; None where it does not exist, or it or its tenant was deleted."""
        read_at, channel = self._read.get(channel_id, (0.0, None))
        now = time.monotonic()
        if channel is not None and channel.tenant_id == tenant_id and now - read_at < MAX_AGE:
            return channel
        channel = await channels.get(pool, tenant_id, channel_id)
        if channel is None or channel.status != "active":
            self._read.pop(channel_id, None)
            return channel
        if len(self._read) >= MOST:
            self._read.clear()
        self._read[channel_id] = now, channel
        return channel

    def forget(self, channel: Channel) -> None:
        """Read it again the next time."""
        self._read.pop(channel.id, None)
