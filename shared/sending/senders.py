"""The senders of one process: one per channel, made from its sealed credentials, made anew when they change; the
channel's rate, shared with every other process through a bucket in PostgreSQL; and the places of each lane."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from shared.crypto import KeyRing
from shared.database import Pool
from shared.domain.channels import Channel
from shared.domain.model import Outgoing
from shared.providers import provider
from shared.providers.base import Sender
from shared.providers.email import unsubscribe
from shared.queue.jobs import SendAdmitted
from shared.resilience.bulkhead import Lane
from shared.sending.attachments import Packing
from shared.settings import Settings
from shared.store import channels
from shared.store.messages import sends
from shared.store.messages.outbound import Outbound

CONCURRENCY = 64  # calls at once, per lane and process; one channel gets half of them where no other is at it
SLICES_PER_SECOND = 10  # a process reserves a tenth of a second of a channel's rate at a time


@dataclass(slots=True)
class _Slice:
    """Reserved slots: the next one's moment (monotonic seconds), how many are left, and how far apart they are."""

    next_at: float = 0.0
    left: int = 0
    apart: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Senders:
    """Senders by channel. A channel that changed gets a new one; the old one is closed at the end of the process, as
    a call may be under way on it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = KeyRing.parse(settings.secret_keys.get_secret_value())
        self._senders: dict[UUID, tuple[datetime, Sender]] = {}
        self._retired: list[Sender] = []
        self._slices: dict[UUID, _Slice] = {}
        self._lanes: dict[str, Lane[SendAdmitted]] = {}
        self._lock = asyncio.Lock()
        self.packing = Packing(settings)

    async def of(self, pool: Pool, channel: Channel) -> Sender:
        """The sender of a channel. Raises shared.crypto.CryptoError or ValueError where its credentials are no good."""
        async with self._lock:
            held = self._senders.get(channel.id)
            if held is not None and held[0] == channel.updated_at:
                return held[1]
            sealed = await channels.credentials(pool, channel.tenant_id, channel.id)
            if sealed is None:
                raise ValueError("the channel was deleted")
            opened = self._keys.open(sealed, tenant_id=channel.tenant_id, owner=channel.id)
            sender = provider(channel.provider).make_sender(opened, self._settings)
            if held is not None:
                self._retired.append(held[1])
            self._senders[channel.id] = (channel.updated_at, sender)
            return sender

    def unsubscribe_url(self, channel: Channel, message_id: UUID) -> str | None:
        """Where who gets this bulk mail says that they want no more; None for a channel without an endpoint."""
        if channel.endpoint_id is None:
            return None
        proof = self._keys.seal("", tenant_id=channel.tenant_id, owner=unsubscribe.owner(message_id))
        base = self._settings.public_url.rstrip("/")
        return f"{base}/webhooks/email/{channel.endpoint_id}/{unsubscribe.PATH}/{message_id}/{proof}"

    def lane(self, queue: str) -> Lane[SendAdmitted]:
        """The places of a queue's lane, and what waits for one."""
        return self._lanes.setdefault(queue, Lane(CONCURRENCY))

    async def turn(self, pool: Pool, channel: Channel, longest: float) -> tuple[float, bool]:
        """Take the next slot of the channel's rate; returns the seconds until it comes, and whether it was taken.

        It is not where it begins later than `longest` seconds from now: ask again then.
        """
        rate = channel.settings.rate or provider(channel.provider).rate
        held = self._slices.setdefault(channel.id, _Slice())
        async with held.lock:
            now = time.monotonic()
            if held.left == 0 or held.next_at < now - 1 / SLICES_PER_SECOND:
                slots = max(1, round(rate / SLICES_PER_SECOND))
                starts_in, taken = await sends.take_slice(
                    pool, channel.tenant_id, channel.id, timedelta(seconds=slots / rate), timedelta(seconds=longest)
                )
                if not taken:
                    return starts_in, False
                held.next_at, held.left, held.apart = time.monotonic() + starts_in, slots, 1 / rate
            wait = held.next_at - time.monotonic()
            held.next_at += held.apart
            held.left -= 1
            return max(wait, 0.0), True

    async def close(self) -> None:
        for sender in (*self._retired, *(sender for _, sender in self._senders.values())):
            await sender.close()


@asynccontextmanager
async def open_senders(settings: Settings) -> AsyncIterator[Senders]:
    """This process's senders; closes them at the end. Raises shared.crypto.CryptoError where no key is configured."""
    senders = Senders(settings)
    try:
        yield senders
    finally:
        await senders.close()


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
