"""WebhookReceived → PostgreSQL: contact, conversation, message, receipts → ReplyWanted, SendRequested.

Many webhooks a transaction. Order-free: whatever comes twice, late or shuffled leads to the same rows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

from shared import database
from shared.actions import consents, delivery_receipts
from shared.domain.channels import Channel
from shared.domain.consents import Change
from shared.domain.model import InboundMessage
from shared.process import metrics
from shared.queue import topology
from shared.queue.jobs import Job, MediaWanted, ReplyWanted, SendRequested, WebhookReceived
from shared.queue.outcomes import Retry
from shared.queue.worker import Context, Worker
from shared.resilience.lock_waits import PAUSE, Locked, LockWaits
from shared.store import channels, contacts, conversations, media, webhook_log
from shared.store.consents import Entry
from shared.store.events import Event, record
from shared.store.messages import inbound, outbound
from shared.store.webhook_log import Logged
from workers.persist import agent_messages
from workers.persist.conversation_updates import Arrived, Hearing, told_at
from workers.persist.parsing import Reading, Received, assign_channels, in_order, notices, once, read, told

worker: Worker[WebhookReceived, None] = Worker(
    name="persist",
    queues=(topology.PERSIST, topology.PERSIST_RECEIPTS, topology.PERSIST_LARGE),
    consumes=WebhookReceived,
    publishes=(ReplyWanted, SendRequested, MediaWanted),
    concurrency=2,  # one waits for PostgreSQL while the other parses
    batch=400,  # what a transaction costs by itself is shared by more; it still ends within some 50 ms
)


@worker.handle_batch
async def persist(webhooks: Sequence[WebhookReceived], ctx: Context[None]) -> None:
    for _ in range(contacts.JOINS):
        try:
            return await keep(webhooks, ctx)
        except contacts.SplitError as split:
            # In a transaction of its own: it locks few rows, and no batch waits for another's while it holds them.
            async with ctx.transaction() as tx:
                await contacts.join(tx, split)
        except Exception as error:
            if len(webhooks) > 1 or database.is_conflict(error) or not database.is_unstorable(error):
                raise
            return await keep_raw(webhooks[0], error, ctx)
    raise Retry("contacts of one person are being joined")


async def keep(webhooks: Sequence[WebhookReceived], ctx: Context[None]) -> None:
    """Keep all of a batch, in one transaction, and hand on what follows from it."""
    readings = await read(once(webhooks))
    async with ctx.transaction() as tx:
        fresh = await webhook_log.remember(tx, webhooks)
        wanted = [r for r in readings.values() if r.webhook.inbound_id in fresh or r.webhook.replayed]
        if not wanted:
            return
        endpoints = sorted({reading.webhook.endpoint_id for reading in wanted})
        assign_channels(wanted, await channels.of_endpoints(tx, endpoints))
        await webhook_log.log(tx, [r.logged for r in wanted if r.webhook.inbound_id in fresh])
        for reading in wanted:
            if reading.webhook.inbound_id not in fresh:
                logged = reading.logged
                await webhook_log.set_outcome(tx, logged.webhook.inbound_id, logged.outcome, logged.error)
        with beside_locks(wanted, ctx.locks):
            hand_on = await keep_read(tx, wanted, timedelta(seconds=ctx.settings.handoff_lease))
    _count(wanted)
    for reading in wanted:
        if reading.logged.error:
            ctx.log.warning(
                "webhook not fully read", inbound_id=reading.webhook.inbound_id, problems=len(reading.errors)
            )
    await ctx.publish(*hand_on)


@contextmanager
def beside_locks(wanted: Sequence[Reading], locks: LockWaits) -> Iterator[None]:
    """Of webhooks that don't say whose they are, whose channels they are for is known here only: those of tenants who
    hold locks wait, and the others of their endpoint don't."""
    tenants = {
        channel.tenant_id
        for reading in wanted
        if reading.webhook.tenant is None
        for channel, _ in (*reading.messages, *reading.receipts, *reading.managers)
    }
    holding = [tenant for tenant in tenants if tenant in locks]
    if holding and len(wanted) > 1:
        raise Locked(PAUSE.first)
    if (wait := max(map(locks.wait, holding), default=0.0)) > 0:
        raise Locked(wait)
    try:
        yield
    except database.LockTimeout as error:
        if len(wanted) == 1 and tenants:
            raise Locked(max(map(locks.in_vain, tenants))) from error
        raise
    for tenant in tenants:
        locks.went_through(tenant)


async def keep_read(tx: database.Connection, wanted: Sequence[Reading], handoff: timedelta) -> list[Job]:
    """Keep what was read in webhooks; returns what follows from it."""
    await consents.told(tx, told(wanted))
    hand_on = await keep_talk(tx, in_order(wanted), handoff)
    hand_on += await delivery_receipts.apply(
        tx,
        [
            delivery_receipts.Arrived(
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
    return hand_on


async def keep_raw(webhook: WebhookReceived, error: Exception, ctx: Context[None]) -> None:
    """Keep a webhook of which PostgreSQL takes nothing but the bytes: what is wrong can be mended, and it replayed."""
    reason = (
        f"{type(error).__name__}: PostgreSQL does not take it" if database.is_postgres(error) else str(error)[:2000]
    )
    logged = Logged(webhook, "unparsed", reason)
    async with ctx.transaction() as tx:
        if await webhook_log.remember(tx, [webhook]):
            await webhook_log.log(tx, [logged])
        else:
            await webhook_log.set_outcome(tx, webhook.inbound_id, logged.outcome, logged.error)
    metrics.WEBHOOKS_PARSED.labels(webhook.provider, "error").inc()
    ctx.log.error("webhook kept raw only", inbound_id=webhook.inbound_id, error=type(error).__name__)


async def keep_talk(tx: database.Connection, received: Sequence[Received], handoff: timedelta) -> list[Job]:
    """Contacts, conversations, and what customers and managers said in them, in this order; returns what may go on now.

    Whoever shares a conversation with this batch waits from its lock to our commit: what can be done before, is. And
    all of them are locked at once: two batches that took them by turns would wait for each other.
    """
    arrived: list[Arrived] = []
    places: list[int] = []  # of `arrived`, among all that was said
    managers: list[agent_messages.Arrived] = []
    for place, one in enumerate(received):
        if isinstance(one.message, InboundMessage):
            arrived.append((one.webhook, one.channel, one.message))
            places.append(place)
        else:
            managers.append(agent_messages.Arrived(one.channel, one.message, one.webhook.received_at, place))
    if not arrived and not managers:
        return []
    contact_ids, new_contacts = await contacts.find_or_make(
        tx,
        [
            *(contacts.Person(channel.tenant_id, m.sender, m.contact_name) for _, channel, m in arrived),
            *(agent_messages.person(one) for one in managers),
        ],
    )
    found = await conversations.find_or_make(
        tx,
        [
            *(_conversation(channel, m, of) for (_, channel, m), of in zip(arrived, contact_ids, strict=False)),
            *(
                agent_messages.conversation(one, of)
                for one, of in zip(managers, contact_ids[len(arrived) :], strict=True)
            ),
        ],
    )
    served = [*(channel for _, channel, _ in arrived), *(one.channel for one in managers)]
    await record(tx, *_first_contacts(served, contact_ids, new_contacts, found))
    rows = inbound.inbound_rows(
        [
            _inbound(one, of, contact_id, place)
            for one, of, contact_id, place in zip(arrived, found, contact_ids, places, strict=False)
        ]
    )
    wishes = consents.wishes([(channel, m) for _, channel, m in arrived])
    hearing = Hearing.of(arrived, found, contact_ids, rows.ids, wishes)

    if not await conversations.lock(tx, {(one.tenant_id, one.id) for one in found}):
        raise Retry("a conversation was deleted while a message came for it")
    hand_on: list[Job] = []
    began = None
    inserted: Mapping[int, UUID] = {}
    if arrived:
        new = await inbound.insert_inbound(tx, rows)
        inserted, began = new.ids, new.began
        if len(inserted) < len(rows.ids):  # some were here before: they say nothing new
            hearing = Hearing.of(arrived, found, contact_ids, inserted, wishes)
        await consents.write(tx, _said(arrived, contact_ids, wishes, inserted))
        hand_on += await media.want(tx, _files(arrived, inserted), handoff)
    if hearing.heard:
        updated = await conversations.heard(tx, list(hearing.heard.values()), handoff)
        hand_on += hearing.replies(updated.owed)
        if updated.deleted:
            await contacts.revive(tx, updated.deleted & _returned(arrived, contact_ids, new_contacts, inserted))
        if updated.held:
            hand_on += await outbound.release_held(tx, list(updated.held), handoff)
    return [*hand_on, *await agent_messages.apply(tx, managers, found[len(arrived) :], began, handoff)]


def _conversation(channel: Channel, m: InboundMessage, contact_id: UUID) -> conversations.Wanted:
    return conversations.Wanted(
        tenant_id=channel.tenant_id,
        channel_id=channel.id,
        provider=channel.provider,
        addresses=tuple(address.canonical for address in m.sender),
        recipient=m.sender[0].given,
        phone=next((address.given for address in m.sender if address.kind == "phone"), None),
        contact_id=contact_id,
        contact_name=m.contact_name,
        kommo_chat_id=next((address.canonical for address in m.sender if address.kind == "kommo_chat"), None),
    )


def _inbound(arrived: Arrived, conversation: conversations.Found, contact_id: UUID, place: int) -> inbound.Inbound:
    webhook, channel, m = arrived
    return inbound.Inbound(
        tenant_id=channel.tenant_id,
        conversation_id=conversation.id,
        channel_id=channel.id,
        provider=channel.provider,
        external_id=m.external_id,
        message_type=m.message_type,
        content=m.text,
        received_at=webhook.received_at,
        provider_timestamp=told_at(m, webhook.received_at),
        media=m.media,
        metadata=m.extra,
        reply_to=m.reply_to,
        contact_name=m.contact_name,
        contact_id=contact_id,
        place=place,
    )


def _first_contacts(
    served: Sequence[Channel], contact_ids: Sequence[UUID], new: set[UUID], found: Sequence[conversations.Found]
) -> list[Event]:
    """What is told of people and conversations that were not known before; `served` are the messages' channels."""
    events = {
        contact_id: Event("contact.created", channel.tenant_id, channel.id, contact_id=contact_id)
        for contact_id, channel in zip(contact_ids, served, strict=True)
        if contact_id in new
    }
    opened = {
        conversation.id: Event(
            "conversation.opened", channel.tenant_id, channel.id, conversation.id, contact_id=contact_id
        )
        for conversation, contact_id, channel in zip(found, contact_ids, served, strict=True)
        if conversation.made
    }
    return [*events.values(), *opened.values()]


def _files(arrived: Sequence[Arrived], inserted: Mapping[int, UUID]) -> list[media.Sent]:
    """The files of the messages that are new."""
    return [
        media.Sent(channel.tenant_id, channel.id, inserted[place], position, part, webhook.inbound_id, webhook.trace)
        for place, (webhook, channel, m) in enumerate(arrived)
        if m.media and place in inserted
        for position, part in enumerate(m.media)
    ]


def _returned(
    arrived: Sequence[Arrived], contact_ids: Sequence[UUID], new: set[UUID], inserted: Mapping[int, UUID]
) -> set[tuple[UUID, UUID]]:
    """(tenant, contact) of those known before who wrote, and in whose name nobody else can have written: a mail that
    asks for an answer to somebody who was deleted does not put them back among those whom campaigns reach."""
    return {
        (channel.tenant_id, contact_ids[place])
        for place, (_, channel, m) in enumerate(arrived)
        if place in inserted and contact_ids[place] not in new
        and m.message_type != "system" and m.authorship == "proven" and m.author is None
    }  # fmt: skip


def _said(
    arrived: Sequence[Arrived],
    contact_ids: Sequence[UUID],
    wishes: Mapping[int, Change],
    inserted: Mapping[int, UUID],
) -> list[Entry]:
    """Opt-outs and opt-ins by what customers wrote, of the messages that are new. Those of an author who is not the
    conversation's customer are `arrivals.told`."""
    return [
        consents.said(channel, m, wishes[place], contact_ids[place], inserted[place], webhook.received_at)
        for place, (webhook, channel, m) in ((place, arrived[place]) for place in wishes)
        if place in inserted and wishes[place].proven and m.author is None
    ]


def _count(readings: Sequence[Reading]) -> None:
    held: Counter[tuple[str, str]] = Counter()
    for reading in readings:
        provider = reading.webhook.provider
        held[provider, "message"] += len(reading.messages)
        held[provider, "receipt"] += len(reading.receipts)
        held[provider, "manager"] += len(reading.managers)
        held[provider, "notice"] += len(reading.parsed.notices)
        held[provider, "error"] += len(reading.parsed.errors) + len(reading.errors)
    for labels, count in held.items():
        if count:
            metrics.WEBHOOKS_PARSED.labels(*labels).inc(count)
