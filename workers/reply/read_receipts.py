"""Read receipts: shows the customer that their message was read and, while a model answers, that we are typing.

The reply does not wait for it, nothing about it is stored, and it takes no slot of the channel's rate. A failure is
counted in a metric and has no other effect.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Literal
from uuid import UUID

from shared.database import Connection, Pool
from shared.domain.channels import Channel
from shared.domain.window import is_open
from shared.process import metrics
from shared.providers import provider
from shared.providers.base import Ambiguous, ChannelBroken, Reader, Throttled, Unreachable
from shared.sending.senders import Senders
from shared.settings import Settings
from shared.store.messages import inbound

LONGEST: Final = 5.0  # seconds from its beginning to its end; a later one would be of no use
MOST_AT_ONCE: Final = 64  # of one process; further ones are dropped
MUTE: Final = 60.0  # seconds without any for a channel whose provider throttles, refuses the channel or does not answer

Outcome = Literal["shown", "refused", "failed", "dropped"]


async def messages_to_acknowledge(connection: Connection, asked: Sequence[tuple[Channel, UUID]]) -> dict[UUID, str]:
    """Conversation → the provider's id of the customer's newest message, for those of these (channel, conversation)
    whose channel acknowledges it as read.

    Not where no answer would reach the customer: outside the window, from a stopped channel. Customers who have opted
    out get no reply, so they don't come here.
    """
    by_conversation = {conversation: channel for channel, conversation in asked if _acknowledges(channel)}
    keys = [(channel.tenant_id, conversation) for conversation, channel in by_conversation.items()]
    newest = await inbound.newest_readable(connection, keys)
    return {
        conversation: message.external_id
        for conversation, message in newest.items()
        if by_conversation[conversation].kind != "whatsapp" or is_open(message.last_user_message_at, message.now)
    }


def _acknowledges(channel: Channel) -> bool:
    wanted = channel.settings.reply.read_receipts and channel.status == "active"
    return wanted and provider(channel.provider).read_receipts


class ReadReceipts:
    """The read receipts of one process. Costs nothing until a channel shows one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._senders: Senders | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._muted_until: dict[UUID, float] = {}  # channel → when it may try again, monotonic seconds

    def show(self, pool: Pool, channel: Channel, external_id: str | None) -> None:
        """Show that this message was read. `external_id` None: show nothing."""
        if external_id is not None:
            self._begin(pool, channel, external_id, typing=False)

    @contextmanager
    def shown(self, pool: Pool, channel: Channel, external_id: str | None, *, typing: bool) -> Iterator[None]:
        """Show, while the block runs, that this message was read, and with `typing` that we are typing.

        `external_id` None: show nothing. With `typing` the call is cancelled at the end of the block: after the answer
        it would show that another one is being typed.
        """
        showing = self._begin(pool, channel, external_id, typing) if external_id is not None else None
        try:
            yield
        finally:
            if showing is not None and typing:
                showing.cancel()

    def _begin(self, pool: Pool, channel: Channel, external_id: str, typing: bool) -> asyncio.Task[None] | None:
        if self._muted_until.get(channel.id, 0.0) > time.monotonic() or len(self._under_way) >= MOST_AT_ONCE:
            _count(channel, "dropped")
            return None
        self._muted_until.pop(channel.id, None)
        showing = asyncio.create_task(self._show(pool, channel, external_id, typing))
        self._under_way.add(showing)
        showing.add_done_callback(self._under_way.discard)
        return showing

    async def _show(self, pool: Pool, channel: Channel, external_id: str, typing: bool) -> None:
        try:
            async with asyncio.timeout(LONGEST):
                if self._senders is None:
                    self._senders = Senders(self._settings)
                sender = await self._senders.of(pool, channel)
                if not isinstance(sender, Reader):
                    return
                refused = await sender.show_read(channel.address, external_id, typing=typing)
        except Exception:  # no key, no database, no answer: `send` meets the same error and reports it
            self._mute(channel)
            _count(channel, "failed")
            return
        if isinstance(refused, Throttled | ChannelBroken | Unreachable | Ambiguous):
            self._mute(channel)
        _count(channel, "shown" if refused is None else "refused")

    def _mute(self, channel: Channel) -> None:
        self._muted_until[channel.id] = time.monotonic() + MUTE

    async def close(self) -> None:
        """Cancel the calls that are under way."""
        under_way = list(self._under_way)
        for showing in under_way:
            showing.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if self._senders is not None:
            await self._senders.close()


def _count(channel: Channel, outcome: Outcome) -> None:
    metrics.READ_RECEIPTS.labels(channel.provider, outcome).inc()


@asynccontextmanager
async def open_read_receipts(settings: Settings) -> AsyncIterator[ReadReceipts]:
    """This process's read receipts; calls under way are cancelled at the end."""
    opened = ReadReceipts(settings)
    try:
        yield opened
    finally:
        await opened.close()
