"""Stores what agents wrote in a provider's own interface, and hands the conversation over to them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from shared.actions import delivery_receipts
from shared.database import Connection
from shared.domain.model import Receipt
from shared.queue.jobs import SendRequested
from shared.store.events import Event, record
from shared.store.messages import agent_messages, agent_reports
from workers.persist.incoming import FromAgent


async def apply(
    connection: Connection, agents: Sequence[FromAgent], began: datetime | None, handoff: timedelta
) -> list[SendRequested]:
    """Store agents' messages in their conversations, which the caller has locked, and escalate these; returns the jobs
    that follow. `began` is the time of the batch's place 0, where customers' messages have it.

    A provider also echoes the messages that we sent. We know an echo by its id. One that comes before our own call has
    ended has an id that we don't know yet: it is a receipt for the one message that it can be.
    """
    if not agents:
        return []
    echoes = await agent_messages.echoes(connection, [one.row for one in agents if one.may_be_ours])
    ours = [one for one in agents if one.is_ours or echoes.get(one.place)]
    theirs = [one for one in agents if one not in ours]
    new = await agent_messages.insert(connection, [one.row for one in theirs], began)
    await agent_reports.owe(connection, [one.row for one in theirs if one.to_be_reported])
    recorded = [_recorded(one, new[one.place]) for one in theirs if one.place in new]
    escalated = await _escalate(connection, [one for one in theirs if one.place in new and one.by_person])
    await record(connection, *recorded, *escalated)
    receipts = [_receipt(one, echoes[one.place][0]) for one in ours if len(echoes.get(one.place, ())) == 1]
    return await delivery_receipts.apply(connection, receipts, handoff)


async def _escalate(connection: Connection, by_persons: Sequence[FromAgent]) -> list[Event]:
    """Hand the conversations over to the agents who wrote in them, where the channel wants that; returns the events."""
    channels = {
        (one.conversation.tenant_id, one.conversation.id): one.channel
        for one in by_persons
        if one.channel.settings.manager.escalate
    }
    escalated = await agent_messages.escalate(connection, list(channels))
    return [Event("conversation.escalated", tenant, channels[tenant, one].id, one) for tenant, one in escalated]


def _recorded(one: FromAgent, message_id: UUID) -> Event:
    return Event(
        "message.recorded",
        one.channel.tenant_id,
        one.channel.id,
        one.conversation.id,
        message_id,
        detail={"by": "manager" if one.by_person else "bot", "type": one.message.message_type},
    )


def _receipt(one: FromAgent, message_id: UUID) -> delivery_receipts.IncomingReceipt:
    """The receipt that an echo is."""
    return delivery_receipts.IncomingReceipt(
        one.channel.tenant_id,
        one.channel.id,
        one.channel.provider,
        Receipt(one.message.external_id, "sent", message_id, timestamp=one.message.timestamp),
        one.webhook.received_at,
    )
