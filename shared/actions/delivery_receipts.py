"""Applies delivery receipts to their messages, forward only, and does what follows from a failure.

A closed 24-hour window leads to a fallback message, an opt-out to an entry in the ledger, and an error that concerns
the whole channel slows or stops it. No other failed message is sent again by itself: the provider had accepted it and
may still deliver it (a `delivered` may follow a `failed`), and later messages may have left before it.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from shared import database
from shared.actions import consents as consent_actions
from shared.database import Connection
from shared.database.each_row import skipped
from shared.domain import consents
from shared.domain.message_form import form_of, stored
from shared.domain.model import Media
from shared.domain.statuses import after_receipt
from shared.providers import provider
from shared.providers.base import ChannelBroken, OptedOut, Throttled, WindowClosed
from shared.queue.jobs import SendRequested
from shared.store import channels, conversations, rate_limits
from shared.store.events import Event, record
from shared.store.messages import delivery_receipts, outbound, parked_receipts
from shared.store.messages.delivery_receipts import IncomingReceipt, Move, ReceiptMessage

# A receipt shows the channel as it was when the message left. A later one may be from before the channel was repaired.
_NEWS = timedelta(minutes=10)
_PAUSE = 5.0  # seconds, where a throttle names none
_LONGEST_PAUSE = 3600.0

# Receipt, message, conversation, whether the message may be sent again, row of message_statuses.
_Located = tuple[IncomingReceipt, UUID, UUID, bool, UUID]


async def apply(connection: Connection, incoming: Sequence[IncomingReceipt], handoff: timedelta) -> list[SendRequested]:
    """Store receipts and move their messages; returns the jobs of fallback messages, to publish after the commit.

    A receipt that comes before its message is parked; `apply_parked` applies it later.
    """
    if not incoming:
        return []
    found = await delivery_receipts.locate(connection, incoming)
    inserted = await delivery_receipts.insert(connection, incoming, found)
    return await _move(
        connection, [(incoming[i], *found[i], inserted[i]) for i in sorted(inserted) if i in found], handoff
    )


async def apply_parked(connection: Connection, limit: int, handoff: timedelta) -> tuple[int, list[SendRequested]]:
    """Apply parked receipts whose message exists by now; returns how many, and the jobs of fallback messages.

    A receipt that can't be applied is reported and skipped: it stays in its message's history, and moves nothing.
    """
    parked = await parked_receipts.with_message(connection, limit)
    if not parked:
        return 0, []
    try:
        async with connection.transaction():
            return len(parked), await _apply_parked(connection, parked, handoff)
    except Exception as error:
        if database.is_outage(error) or database.is_conflict(error):
            raise
    fallbacks: list[SendRequested] = []
    holding: set[UUID] = set()  # tenants
    for one in parked:
        if one.incoming.tenant_id not in holding:
            try:
                fallbacks += await _apply_by_itself(connection, one, handoff)
            except database.LockTimeout:
                holding.add(one.incoming.tenant_id)
    return len(parked), fallbacks


async def _apply_by_itself(
    connection: Connection, one: parked_receipts.Parked, handoff: timedelta
) -> list[SendRequested]:
    """Apply one parked receipt. Raises LockTimeout where its rows are locked: then it stays parked."""
    try:
        async with connection.transaction():
            return await _apply_parked(connection, [one], handoff)
    except Exception as error:
        if database.is_outage(error) or database.is_conflict(error) or isinstance(error, database.LockTimeout):
            raise
        skipped("receipt", error, tenant=str(one.incoming.tenant_id))
    async with connection.transaction():
        await parked_receipts.adopt(connection, one)
    return []


async def _apply_parked(
    connection: Connection, parked: Sequence[parked_receipts.Parked], handoff: timedelta
) -> list[SendRequested]:
    for one in parked:
        await parked_receipts.adopt(connection, one)
    found = await delivery_receipts.locate(connection, [one.incoming for one in parked])
    located = [(one.incoming, *found[i], one.status_id) for i, one in enumerate(parked) if i in found]
    return await _move(connection, located, handoff)


async def _move(connection: Connection, located: Sequence[_Located], handoff: timedelta) -> list[SendRequested]:
    if not located:
        return []
    # A fallback message, and one that is sent again, need their conversation's lock, which goes before messages' locks.
    concerned = {
        (a.tenant_id, conversation) for a, _, conversation, doubtful, _ in located if doubtful or _window_closed(a)
    }
    if concerned:
        await conversations.lock(connection, concerned)
    rows = await delivery_receipts.lock_messages(connection, {(a.tenant_id, message) for a, message, *_ in located})

    # For a message that was abandoned as unknown, or sent again since, a receipt still reports the true outcome.
    status = {message_id: "unknown" if row.abandoned else row.status for message_id, row in rows.items()}
    moving: dict[UUID, IncomingReceipt] = {}
    applied: list[tuple[UUID, UUID]] = []
    for a, message_id, _, _, row_id in sorted(located, key=lambda one: one[0].received_at):
        target = after_receipt(status[message_id], a.receipt.status) if message_id in status else None
        if target is not None:
            status[message_id] = target
            moving[message_id] = a
            applied.append((a.tenant_id, row_id))
    await delivery_receipts.move(connection, [_step(rows[i], a, status[i]) for i, a in moving.items()])
    for i in moving:
        if (resends := rows[i].resends) is not None:  # the provider had accepted it after all
            await delivery_receipts.cancel_resends(connection, rows[i].tenant_id, rows[i].conversation_id, resends)
    await delivery_receipts.applied(connection, applied)
    await record(
        connection,
        *(
            Event(
                f"message.{status[i]}",
                a.tenant_id,
                a.channel_id,
                rows[i].conversation_id,
                i,
                detail={"error_code": a.receipt.error_code} if a.receipt.error_code else {},
            )
            for i, a in moving.items()
        ),
    )
    await _slow_or_stop_channels(connection, [(rows[i], a) for i, a in moving.items() if status[i] == "failed"])
    refusals = [_refused(a, rows[i]) for a, i, *_ in located if i in rows and _opted_out(a)]
    await consent_actions.record_refusals(connection, refusals)
    fallbacks = [
        await _fallback(connection, rows[i], a, handoff)
        for i, a in moving.items()
        if status[i] == "failed" and _window_closed(a)
    ]
    return [request for request in fallbacks if request is not None]


async def _slow_or_stop_channels(
    connection: Connection, failed: Sequence[tuple[ReceiptMessage, IncomingReceipt]]
) -> None:
    """Slow or stop the channels whose failed receipts report a throttle, or an error of the channel itself."""
    pauses: dict[tuple[UUID, UUID], float] = {}
    broken: dict[tuple[UUID, UUID], ChannelBroken] = {}
    for row, incoming in failed:
        if row.claimed_at is None or incoming.received_at - row.claimed_at > _NEWS:
            continue
        key = (row.tenant_id, row.channel_id)
        match provider(row.provider).refusal_by_receipt(incoming.receipt.error_code or ""):
            case Throttled(scope="channel") as throttled:
                wait = min(throttled.retry_after or _PAUSE, _LONGEST_PAUSE)
                pauses[key] = max(wait, pauses.get(key, 0.0))
            case ChannelBroken(scope="channel") as one:
                broken.setdefault(key, one)
    for (tenant_id, channel_id), wait in sorted(pauses.items()):
        await rate_limits.pause(connection, tenant_id, channel_id, timedelta(seconds=wait))
    for (tenant_id, channel_id), one in sorted(broken.items(), key=lambda item: item[0]):
        if await channels.stop(connection, tenant_id, channel_id, f"{one.code}: by receipt"):
            await record(connection, Event("channel.stopped", tenant_id, channel_id, detail={"error_code": one.code}))


def _window_closed(incoming: IncomingReceipt) -> bool:
    """Whether the receipt reports that the 24-hour window was closed."""
    code = incoming.receipt.error_code
    return code is not None and provider(incoming.provider).error_class(code) is WindowClosed


def _opted_out(incoming: IncomingReceipt) -> bool:
    """Whether the receipt reports that the customer has opted out."""
    code = incoming.receipt.error_code
    return code is not None and provider(incoming.provider).error_class(code) is OptedOut


def _refused(incoming: IncomingReceipt, row: ReceiptMessage) -> consent_actions.OptOutRefusal:
    return consent_actions.OptOutRefusal(
        tenant_id=incoming.tenant_id,
        conversation_id=row.conversation_id,
        message_id=row.id,
        provider=incoming.provider,
        code=incoming.receipt.error_code or "",
        at=incoming.received_at
        if incoming.receipt.error_code in consents.BY_RECIPIENT
        else min(incoming.receipt.timestamp or row.claimed_at or incoming.received_at, incoming.received_at),
        inbound_id=incoming.inbound_id,
    )


def _step(row: ReceiptMessage, incoming: IncomingReceipt, status: str) -> Move:
    failed = status == "failed"
    receipt = incoming.receipt
    return Move(
        tenant_id=row.tenant_id,
        message_id=row.id,
        status=status,
        external_id=receipt.external_id,
        at=receipt.timestamp or incoming.received_at,
        error_code=(receipt.error_code or receipt.status) if failed else None,
        error_message=(receipt.error_message or "")[:500] or None if failed else None,
    )


async def _fallback(
    connection: Connection, row: ReceiptMessage, incoming: IncomingReceipt, handoff: timedelta
) -> SendRequested | None:
    """Queue a new message in place of one that failed by a closed window; None where the policy is to let it fail.

    A template is not tried again: the window does not bind it, so another try would fail in the same way.
    """
    channel = await channels.get(connection, row.tenant_id, row.channel_id)
    if channel is None or row.template is not None or row.sent_as is not None:
        return None
    if (row.window_policy or channel.settings.window.policy) == "fail":
        return None
    return await outbound.add_outbound(
        connection,
        outbound.NewMessage(
            tenant_id=row.tenant_id,
            conversation_id=row.conversation_id,
            channel_id=row.channel_id,
            provider=row.provider,
            dedupe_key=f"fallback:{row.id}",
            content=row.content,
            media=tuple(Media(**part) for part in row.media),
            lane=row.lane,
            window_policy=row.window_policy,
            window_refused_at=row.claimed_at or incoming.received_at,
            metadata=stored(form_of(row.metadata)),
            campaign_recipient_id=row.campaign_recipient_id,
        ),
        handoff,
    )


__all__ = ["IncomingReceipt", "apply", "apply_parked"]
