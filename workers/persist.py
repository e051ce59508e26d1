"""WebhookReceived → PostgreSQL: contact, conversation, message, receipts → ReplyWanted, SendRequested.

Many webhooks a transaction. Order-free: whatever comes twice, late or shuffled leads to the same rows.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from shared import addresses, consenting, consents, db, managing, metrics, receiving, topology
from shared.channels import UNREAD_WAIT, Channel
from shared.engines import WAITING
from shared.messages import MediaWanted, QueueMessage, ReplyWanted, SendRequested, WebhookReceived
from shared.outcomes import Retry
from shared.providers import provider
from shared.providers.base import (
    SOLE_CHANNEL,
    ConsentState,
    InboundMessage,
    ManagerMessage,
    Notice,
    Parsed,
    RawWebhook,
    Receipt,
)
from shared.store import channels, contacts, conversations, inbound, media, messages
from shared.store.consents import Entry
from shared.store.events import Event, record
from shared.store.inbound import Logged
from shared.worker import Context, Worker

worker: Worker[WebhookReceived, None] = Worker(
    name="persist",
    queues=(topology.PERSIST, topology.PERSIST_RECEIPTS, topology.PERSIST_LARGE),
    consumes=WebhookReceived,
    publishes=(ReplyWanted, SendRequested, MediaWanted),
    concurrency=2,  # one waits for PostgreSQL while the other parses
    batch=400,  # what a transaction costs by itself is shared by more; it still ends within some 50 ms
)

TURN = 20  # webhooks parsed at a stretch, about half a millisecond
_NULS = ((b"%00", b"%EF%BF%BD"), (b"\\u0000", b"\\ufffd"), (b"\0", "\ufffd".encode()))


@dataclass(slots=True)
class Reading:
    """A webhook as parsed, with what of it has a channel of ours."""

    webhook: WebhookReceived
    parsed: Parsed
    served: Sequence[Channel] = ()  # the channels that may be meant
    messages: list[tuple[Channel, InboundMessage]] = field(default_factory=list)
    receipts: list[tuple[Channel, Receipt]] = field(default_factory=list)
    managers: list[tuple[Channel, ManagerMessage]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def logged(self) -> Logged:
        errors = [*self.parsed.errors, *self.errors]
        held = bool(self.messages or self.receipts or self.managers or self.parsed.notices)
        outcome: inbound.Outcome = "parsed" if not errors else "partly" if held else "unparsed"
        return Logged(self.webhook, outcome, "; ".join(errors)[:2000] or None)


@worker.handle_batch
async def persist(webhooks: Sequence[WebhookReceived], ctx: Context[None]) -> None:
    try:
        await keep(webhooks, ctx)
    except Exception as error:
        if len(webhooks) > 1 or not db.is_unstorable(error):
            raise
        await keep_raw(webhooks[0], error, ctx)


async def keep(webhooks: Sequence[WebhookReceived], ctx: Context[None]) -> None:
    """Keep all of a batch, in one transaction, and hand on what follows from it."""
    readings = await read(once(webhooks))
    hand_on: list[QueueMessage] = []
    async with ctx.transaction() as tx:
        fresh = await inbound.remember(tx, webhooks)
        wanted = [r for r in readings.values() if r.webhook.inbound_id in fresh or r.webhook.replayed]
        if not wanted:
            return
        await assign_channels(tx, wanted)
        await inbound.log(tx, [r.logged for r in wanted if r.webhook.inbound_id in fresh])
        for reading in wanted:
            if reading.webhook.inbound_id not in fresh:
                logged = reading.logged
                await inbound.set_outcome(tx, logged.webhook.inbound_id, logged.outcome, logged.error)
        handoff = timedelta(seconds=ctx.settings.handoff_lease)
        await consenting.told(tx, told(wanted))
        hand_on += await keep_messages(tx, wanted, handoff)
        hand_on += await managing.apply(
            tx,
            [
                managing.Arrived(channel, message, reading.webhook.received_at)
                for reading in wanted
                for channel, message in reading.managers
            ],
            handoff,
        )
        hand_on += await receiving.apply(
            tx,
            [
                receiving.Arrived(
                    channel.tenant_id,
                    channel.id,
                    channel.provider,
                    receipt,
                    reading.webhook.received_at,
                    reading.webhook.inbound_id,
                )
                for reading in wanted
                for channel, receipt in reading.receipts
            ],
            handoff,
        )
        await record(tx, *notices(wanted))
    for reading in wanted:
        _count(reading)
        if reading.logged.error:
            ctx.log.warning(
                "webhook not fully read", inbound_id=reading.webhook.inbound_id, problems=len(reading.errors)
            )
    await ctx.hand_on(*hand_on)


async def keep_raw(webhook: WebhookReceived, error: Exception, ctx: Context[None]) -> None:
    """Keep a webhook of which PostgreSQL takes nothing but the bytes: what is wrong can be mended, and it replayed."""
    reason = f"{type(error).__name__}: PostgreSQL does not take it" if db.is_postgres(error) else str(error)[:2000]
    logged = Logged(webhook, "unparsed", reason)
    async with ctx.transaction() as tx:
        if await inbound.remember(tx, [webhook]):
            await inbound.log(tx, [logged])
        else:
            await inbound.set_outcome(tx, webhook.inbound_id, logged.outcome, logged.error)
    metrics.WEBHOOKS_PARSED.labels(webhook.provider, "error").inc()
    ctx.log.error("webhook kept raw only", inbound_id=webhook.inbound_id, error=type(error).__name__)


def once(webhooks: Sequence[WebhookReceived]) -> list[WebhookReceived]:
    """Each webhook of a batch once, in their order: of the same one twice the replay, else the earlier, for the window
    opens by its time."""
    chosen: dict[str, WebhookReceived] = {}
    for webhook in webhooks:
        known = chosen.get(webhook.inbound_id, webhook)
        better = (webhook.replayed, -webhook.received_at.timestamp()) > (known.replayed, -known.received_at.timestamp())
        chosen[webhook.inbound_id] = webhook if better else known
    return list(chosen.values())


async def read(webhooks: Sequence[WebhookReceived]) -> dict[str, Reading]:
    """Each webhook parsed, by its id. In between, the batch that holds locks gets its turn."""
    readings: dict[str, Reading] = {}
    for number, webhook in enumerate(webhooks):
        if number % TURN == 0:
            await asyncio.sleep(0)
        readings[webhook.inbound_id] = Reading(webhook, parse(webhook))
    return readings


def parse(webhook: WebhookReceived) -> Parsed:
    """Read a webhook by its provider's module. Never raises for what it holds."""
    return provider(webhook.provider).parse(
        RawWebhook(
            webhook.method,
            without_nul(webhook.url.encode()).decode(),
            webhook.content_type,
            webhook.headers,
            without_nul(webhook.raw_body),
        )
    )


def without_nul(raw: bytes) -> bytes:
    """U+FFFD in place of U+0000, as it stands in a form, in JSON, or plainly: PostgreSQL takes none in text or jsonb,
    and one of them would fail the whole batch. The raw webhook keeps it."""
    for written, instead in _NULS:
        if written in raw:
            raw = raw.replace(written, instead)
    return raw


async def assign_channels(tx: db.Connection, readings: Sequence[Reading]) -> None:
    """Find the channel of each message and receipt among those its endpoint serves."""
    by_endpoint: defaultdict[UUID, list[Channel]] = defaultdict(list)
    for channel in await channels.of_endpoints(tx, sorted({r.webhook.endpoint_id for r in readings})):
        if channel.endpoint_id is not None:
            by_endpoint[channel.endpoint_id].append(channel)
    for reading in readings:
        webhook = reading.webhook
        # An endpoint of no tenant serves several; any other one serves its own tenant's channels and no others.
        served = [c for c in by_endpoint[webhook.endpoint_id] if webhook.tenant_id in (None, c.tenant_id)]
        reading.served = served
        for message in reading.parsed.messages:
            to = channel_of_message(served, message)
            if to is not None:
                reading.messages.append((to, message))
            else:
                reading.errors.append(_nobodys(message.channel_kind))
        for written in reading.parsed.managers:
            of_kind = [channel for channel in served if channel.kind == written.channel_kind]
            through = _addressed(of_kind, written.channel_address)
            if through is not None:
                reading.managers.append((through, written))
            else:
                reading.errors.append(_nobodys(written.channel_kind))
        for receipt in reading.parsed.receipts:
            sender = channel_of_receipt(served, receipt)
            if sender is not None:
                reading.receipts.append((sender, receipt))
            else:
                reading.errors.append("this endpoint has no channel for the receipt")


def _nobodys(kind: str) -> str:
    return (
        f"no {kind} channel of this endpoint, or one of several tenants, has the address "
        "the message came to; add it with `palomar channels add`, then `palomar replay`"
    )


def channel_of_message(served: Sequence[Channel], message: InboundMessage) -> Channel | None:
    """The channel a message came to: by its address, else by the messaging service it names."""
    service = message.extra.get("MessagingServiceSid")
    of_kind = [channel for channel in served if channel.kind == message.channel_kind]
    found = _addressed(of_kind, message.channel_address) or next((c for c in of_kind if c.address == service), None)
    return found or (_mailbox(of_kind, message) if message.channel_kind == "email" else None)


def _mailbox(of_kind: Sequence[Channel], message: InboundMessage) -> Channel | None:
    """The channel of a mail by any of those it went to; of one that was forwarded to us, the endpoint's only one."""
    named = message.extra.get("recipients")
    found = [c for c in of_kind if isinstance(named, list) and c.address.lower() in named]
    return found[0] if found else of_kind[0] if len(of_kind) == 1 else None


def channel_of_receipt(served: Sequence[Channel], receipt: Receipt) -> Channel | None:
    """The channel a receipt belongs to: the one it names. Where it names none, which of several of a kind only matters
    to a receipt that is parked."""
    if receipt.channel_address:
        return _addressed(served, receipt.channel_address)
    sender = str(receipt.extra.get("From", "")).removeprefix("whatsapp:")
    of_kind = [c for c in served if receipt.channel_kind in (None, c.kind)] or list(served)
    return next((c for c in of_kind if c.address == sender), of_kind[0] if of_kind else None)


def _addressed(served: Sequence[Channel], address: str) -> Channel | None:
    """The channel of this address; None where several tenants claim it, for one of them would read the other's."""
    if address == SOLE_CHANNEL:
        return served[0] if len(served) == 1 else None
    found = []
    for channel in served:
        own = addresses.phone(channel.address)
        if address in (channel.address, own.canonical if own is not None else channel.address):
            found.append(channel)
    return found[0] if len({channel.tenant_id for channel in found}) == 1 else None


async def keep_messages(tx: db.Connection, readings: Sequence[Reading], handoff: timedelta) -> list[QueueMessage]:
    """Contacts, conversations and messages of a batch; returns what may go on now.

    Whoever shares a conversation with this batch waits from its lock to our commit: what can be done before, is.
    """
    arrived = [(r.webhook, channel, message) for r in readings for channel, message in r.messages]
    if not arrived:
        return []
    contact_ids, new_contacts = await contacts.find_or_make(
        tx, [contacts.Person(channel.tenant_id, m.sender, m.contact_name) for _, channel, m in arrived]
    )
    found = await conversations.find_or_make(
        tx,
        [
            conversations.Wanted(
                tenant_id=channel.tenant_id,
                channel_id=channel.id,
                provider=channel.provider,
                addresses=tuple(address.canonical for address in m.sender),
                recipient=m.sender[0].given,
                phone=next((address.given for address in m.sender if address.kind == "phone"), None),
                contact_id=contact_id,
                contact_name=m.contact_name,
                kommo_chat_id=next((a.canonical for a in m.sender if a.kind == "kommo_chat"), None),
            )
            for (_, channel, m), contact_id in zip(arrived, contact_ids, strict=True)
        ],
    )
    await record(tx, *_first_contacts(arrived, contact_ids, new_contacts, found))
    rows = messages.inbound_rows(
        [
            messages.Inbound(
                tenant_id=channel.tenant_id,
                conversation_id=conversation.id,
                channel_id=channel.id,
                provider=channel.provider,
                external_id=m.external_id,
                message_type=m.message_type,
                content=m.text,
                received_at=webhook.received_at,
                provider_timestamp=_not_later(m.timestamp, webhook.received_at),
                media=m.media,
                metadata=m.extra,
                reply_to=m.reply_to,
                contact_name=m.contact_name,
                contact_id=contact_id,
            )
            for (webhook, channel, m), conversation, contact_id in zip(arrived, found, contact_ids, strict=True)
        ]
    )
    wishes = consenting.wishes([(channel, m) for _, channel, m in arrived])
    hearing = Hearing.of(arrived, found, rows.ids, wishes)
    if not await conversations.lock(tx, {(conversation.tenant_id, conversation.id) for conversation in found}):
        raise Retry("a conversation was deleted while a message came for it")
    inserted = await messages.insert_inbound(tx, rows)
    if len(inserted) < len(rows.ids):  # some were here before: they say nothing new
        hearing = Hearing.of(arrived, found, inserted, wishes)
    await consenting.write(tx, _said(arrived, contact_ids, wishes, inserted))
    files = await media.want(tx, _files(arrived, inserted), handoff)
    if not hearing.heard:
        return list(files)
    owed = await conversations.heard(tx, list(hearing.heard.values()), handoff)
    released = await messages.release_held(tx, [(c.tenant_id, c.id) for c in hearing.heard.values()], handoff)
    return [*hearing.replies(owed), *released, *files]


Arrived = tuple[WebhookReceived, Channel, InboundMessage]


def _first_contacts(
    arrived: Sequence[Arrived], contact_ids: Sequence[UUID], new: set[UUID], found: Sequence[conversations.Found]
) -> list[Event]:
    """What is told of people and conversations that were not known before."""
    events = {
        contact_id: Event("contact.created", channel.tenant_id, channel.id, contact_id=contact_id)
        for contact_id, (_, channel, _) in zip(contact_ids, arrived, strict=True)
        if contact_id in new
    }
    opened = {
        conversation.id: Event(
            "conversation.opened", channel.tenant_id, channel.id, conversation.id, contact_id=contact_id
        )
        for conversation, contact_id, (_, channel, _) in zip(found, contact_ids, arrived, strict=True)
        if conversation.made
    }
    return [*events.values(), *opened.values()]


def _files(arrived: Sequence[Arrived], inserted: Mapping[int, UUID]) -> list[media.Sent]:
    """The files of the messages that are new."""
    return [
        media.Sent(channel.tenant_id, inserted[place], position, part, webhook.inbound_id, webhook.trace)
        for place, (webhook, channel, m) in enumerate(arrived)
        if m.media and place in inserted
        for position, part in enumerate(m.media)
    ]


@dataclass(frozen=True, slots=True)
class Hearing:
    """What the customers' messages of a batch mean for their conversations, by its id."""

    heard: Mapping[UUID, conversations.Heard]
    at_once: Mapping[UUID, bool]  # to be answered now → whether its engine waits for somebody else
    traces: Mapping[UUID, str]

    @classmethod
    def of(
        cls,
        arrived: Sequence[Arrived],
        found: Sequence[conversations.Found],
        places: Iterable[int],
        wishes: Mapping[int, ConsentState],
    ) -> Self:
        """Of the messages at these places, the later ones of a conversation over the earlier."""
        heard: dict[UUID, conversations.Heard] = {}
        traces: dict[UUID, str] = {}
        at_once: dict[UUID, bool] = {}
        for place in sorted(places):
            webhook, channel, m = arrived[place]
            if m.message_type == "system":
                continue
            conversation = found[place]
            reply = channel.settings.reply
            answered = m.message_type not in UNANSWERED and consents.is_answered(m, wishes.get(place))
            before = heard.get(conversation.id)
            heard[conversation.id] = conversations.Heard(
                conversation.tenant_id,
                conversation.id,
                recipient=m.sender[0].given,
                contact_name=m.contact_name,
                debounce=_debounce(channel) if answered else before.debounce if before is not None else None,
                longest_wait=timedelta(seconds=reply.longest_wait),
                at=webhook.received_at,
            )
            traces[conversation.id] = webhook.trace
            if reply.engine != "none" and reply.debounce == 0 and answered:
                at_once[conversation.id] = reply.engine in WAITING
        return cls(heard, at_once, traces)

    def replies(self, owed: set[UUID]) -> list[ReplyWanted]:
        """For those of the conversations `owed` an answer that wait for no quiet."""
        return [
            ReplyWanted(
                tenant_id=self.heard[i].tenant_id, conversation_id=i, waits=self.at_once[i], trace=self.traces[i]
            )
            for i in self.heard
            if i in owed and i in self.at_once
        ]


UNANSWERED = ("reaction", "edit", "revoke")  # a customer's, but nobody expects an answer to them


def _said(
    arrived: Sequence[Arrived],
    contact_ids: Sequence[UUID],
    wishes: Mapping[int, ConsentState],
    inserted: Mapping[int, UUID],
) -> list[Entry]:
    """Opt-outs and opt-ins by what customers wrote, of the messages that are new."""
    return [
        consenting.said(channel, m, wishes[place], contact_ids[place], inserted[place], webhook.received_at)
        for place, (webhook, channel, m) in ((place, arrived[place]) for place in wishes)
        if place in inserted
    ]


def _debounce(channel: Channel) -> timedelta | None:
    """How long a reply waits for quiet; None where the channel owes none."""
    if "reply" in channel.unread:
        return UNREAD_WAIT  # whether one is owed says a process that can read it
    reply = channel.settings.reply
    return None if reply.engine == "none" else timedelta(seconds=reply.debounce)


# Of a notice; the rest is somebody's text or address.
NOTICE_FACTS = (
    "change", "EventType", "CallStatus", "event", "decision", "code", "current_limit", "message_template_name",
    "message_template_language",
)  # fmt: skip


def notices(readings: Sequence[Reading]) -> list[Event]:
    """What else the webhooks told us, announced to whom it concerns; the webhook itself is in `inbound_log`."""
    return [
        Event(
            f"provider.{notice.name}",
            tenant_id,
            channel_id,
            detail={"inbound_id": reading.webhook.inbound_id, **_facts(notice.data)},
        )
        for reading in readings
        for notice in reading.parsed.notices
        for tenant_id, channel_id in _concerned(reading, notice)
    ]


def told(readings: Sequence[Reading]) -> list[consenting.Told]:
    """What of the notices is a consent."""
    return [
        consenting.Told(tenant_id, r.webhook.provider, notice.consent, r.webhook.inbound_id, r.webhook.received_at)
        for r in readings
        for notice in r.parsed.notices
        if notice.consent is not None
        for tenant_id, _ in _concerned(r, notice)
    ]


def _concerned(reading: Reading, notice: Notice) -> list[tuple[UUID, UUID | None]]:
    """Tenants and channel that a notice is about: the channel's it names, else of the account it names, else of the
    endpoint. Nobody where it may be any of several tenants': none of them may learn of another's account."""
    if notice.channel_address:
        channel = _addressed(reading.served, notice.channel_address)
        return [(channel.tenant_id, channel.id)] if channel is not None else []
    if reading.webhook.tenant_id is not None:
        return [(reading.webhook.tenant_id, None)]
    account = notice.data.get("waba_id")
    owners = {c.tenant_id for c in reading.served if account is not None and c.business_id == account}
    every = {c.tenant_id for c in reading.served}
    return [(tenant_id, None) for tenant_id in sorted(owners or (every if len(every) == 1 else ()))]


def _count(reading: Reading) -> None:
    for held, count in (
        ("message", len(reading.messages)),
        ("receipt", len(reading.receipts)),
        ("manager", len(reading.managers)),
        ("notice", len(reading.parsed.notices)),
        ("error", len(reading.parsed.errors) + len(reading.errors)),
    ):
        if count:
            metrics.WEBHOOKS_PARSED.labels(reading.webhook.provider, held).inc(count)


def _facts(data: Mapping[str, object]) -> dict[str, str]:
    return {name: str(data[name])[:100] for name in NOTICE_FACTS if data.get(name)}


def _not_later(timestamp: datetime | None, received_at: datetime) -> datetime | None:
    return None if timestamp is None else min(timestamp, received_at)
