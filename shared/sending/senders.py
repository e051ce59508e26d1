"""The provider clients of one process, one per channel, with the channel's rate and the bulkhead of each queue.

A client is made from the channel's sealed credentials, and again when the channel changes. All processes share a
channel's rate through its row in rate_limits.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

from shared.crypto import KeyRing
from shared.database import Pool
from shared.domain.channels import Channel
from shared.domain.model import Outgoing
from shared.domain.unsubscribe_links import PATH, owner
from shared.providers import provider, rate_of
from shared.providers.base import Sender
from shared.queue.jobs import Lane, SendJob
from shared.resilience.bulkhead import SharedBulkhead
from shared.sending.attachments import Attachments
from shared.sending.pacer import Pacer, Turn
from shared.settings import Settings
from shared.store import channels
from shared.store.messages.outbound_rows import Outbound
from shared.store.rate_limits import Request

CONCURRENCY = 64  # calls at once, per queue and process; one channel gets half of them where no other sends


class Senders:
    """Senders by channel. A changed channel gets a new one; the old one is closed at the end of the process, as it may
    be in a call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = KeyRing.parse(settings.secret_keys.get_secret_value())
        self._senders: dict[UUID, tuple[datetime, Sender]] = {}
        self._retired: list[Sender] = []
        self._bulkheads: dict[str, SharedBulkhead[SendJob]] = {}
        self._lock = asyncio.Lock()
        self.attachments = Attachments(settings)
        self.pacer = Pacer()

    async def of(self, pool: Pool, channel: Channel) -> Sender:
        """The sender of a channel. Raises shared.crypto.CryptoError or ValueError where its credentials are
        unusable."""
        async with self._lock:
            cached = self._senders.get(channel.id)
            if cached is not None and cached[0] == channel.updated_at:
                return cached[1]
            sealed = await channels.credentials(pool, channel.tenant_id, channel.id)
            if sealed is None:
                raise ValueError("the channel was deleted")
            opened = self._keys.open(sealed, tenant_id=channel.tenant_id, owner=channel.id)
            sender = provider(channel.provider).make_sender(opened, self._settings)
            if cached is not None:
                self._retired.append(cached[1])
            self._senders[channel.id] = (channel.updated_at, sender)
            return sender

    def unsubscribe_url(self, channel: Channel, message_id: UUID) -> str | None:
        """The unsubscribe link of a bulk message; None for a channel without an endpoint."""
        if channel.endpoint_id is None:
            return None
        proof = self._keys.seal("", tenant_id=channel.tenant_id, owner=owner(message_id))
        base = self._settings.public_url.rstrip("/")
        return f"{base}/webhooks/{channel.provider}/{channel.endpoint_id}/{PATH}/{message_id}/{proof}"

    def bulkhead(self, queue: str) -> SharedBulkhead[SendJob]:
        """Divides the calls of a queue among its channels, and remembers what waits for one."""
        return self._bulkheads.setdefault(queue, SharedBulkhead(CONCURRENCY))

    @asynccontextmanager
    async def turn(self, pool: Pool, channel: Channel, lane: Lane, longest: float) -> AsyncIterator[Turn]:
        """The turn of a message of this lane in the channel's rate: it is time to claim it, and soon to call.

        Raises SlotTooFar where its slot is more than `longest` seconds away: try again then.
        """
        wanted = Request(
            channel.tenant_id, channel.id, lane, rate=rate_of(channel), bulk_reserve=channel.settings.bulk_reserve
        )
        async with self.pacer.turn(pool, wanted, longest) as turn:
            yield turn

    async def close(self) -> None:
        for sender in (*self._retired, *(sender for _, sender in self._senders.values())):
            await sender.close()


def outgoing(message: Outbound, channel: Channel, public_url: str) -> Outgoing:
    """The message as it leaves: the template it was admitted with, else its text and media."""
    webhook_url = f"{public_url.rstrip('/')}/webhooks/{channel.provider}/{channel.endpoint_id}"
    return Outgoing(
        message_id=message.id,
        channel_kind=channel.kind,
        sender=channel.address,
        recipient=message.recipient,
        recipient_name=message.contact_name,
        text=message.content,
        media=message.media,
        interactive=message.form.interactive,
        reaction=message.form.reaction,
        reply_to=message.form.reply_to,
        template=message.sent_as or message.template,
        webhook_url=webhook_url if channel.endpoint_id is not None else None,
        subject=message.form.subject,
        thread=message.thread if message.lane == "normal" else None,  # a bulk mail answers nothing
        automatic="auto-replied" if message.by_engine else "auto-generated" if message.lane == "bulk" else "",
    )
