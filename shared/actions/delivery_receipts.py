"""Receipts and the messages they are about: forward only; a closed window leads to the fallback row, an opt-out to the
ledger, and what concerns a whole channel slows or stops it.

No other failure is sent again by itself. The provider had accepted the message, and may deliver it after all: a
`delivered` may follow a `failed`. Later messages may have left, so it would also come out of its order.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from shared import database
from shared.actions import consents as consenting
from shared.database import Connection
from shared.database.each_row import skipped
from shared.domain import consents
from shared.domain.message_form import form_of, stored
from shared.domain.model import Media
from shared.domain.statuses import after_receipt
from shared.providers import by_receipt, provider
from shared.providers.base import ChannelBroken, OptedOut, Throttled, WindowClosed
from shared.queue.jobs import SendRequested
from shared.store import channels, conversations
from shared.store.events import Event, record
from shared.store.messages import delivery_receipts, outbound, sends
from shared.store.messages.delivery_receipts import Arrived, Concerned, Move

# A receipt tells of the channel as it was when the message left: late ones may be from before somebody mended it.
_NEWS = timedelta(minutes=10)
_PAUSE = 5.0  # seconds, where a throttle names none
_LONGEST_PAUSE = 3600.0

# Receipt, message, conversation, whether the message may be sent anew, row of message_statuses.
_Located = tuple[Arrived, UUID, UUID, bool, UUID]


async def apply(connection: Connection, arrived: Sequence[Arrived], handoff: timedelta) -> list[SendRequested]:
    """Keep receipts and move their messages; returns the jobs of fallback messages, to publish after the commit.

    Receipts whose message is not here yet are parked; `apply_parked` finds them later.
    """
    if not arrived:
        return []
    found = await delivery_receipts.locate(connection, arrived)
    kept = await delivery_receipts.keep(connection, arrived, found)
    return await _move(connection, [(arrived[i], *found[i], kept[i]) for i in sorted(kept) if i in found], handoff)


async def apply_parked(connection: Connection, limit: int, handoff: timedelta) -> tuple[int, list[SendRequested]]:
    """Apply parked receipts whose message has come; returns how many there were, and the fallback messages.

    One that can't be applied is set apart: it stays in its message's history, and moves nothing.
    """
    parked = await delivery_receipts.parked_with_message(connection, limit)
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
        if one.arrived.tenant_id not in holding:
            try:
                fallbacks += await _apply_by_itself(connection, one, handoff)
            except database.LockTimeout:
                holding.add(one.arrived.tenant_id)
    return len(parked), fallbacks


async def _apply_by_itself(
    connection: Connection, one: delivery_receipts.Parked, handoff: timedelta
) -> list[SendRequested]:
    """Raises LockTimeout where somebody holds its rows: it stays parked."""
    try:
        async with connection.transaction():
            return await _apply_parked(connection, [one], handoff)
    except Exception as error:
        if database.is_outage(error) or database.is_conflict(error) or isinstance(error, database.LockTimeout):
            raise
        skipped("receipt", error, tenant=str(one.arrived.tenant_id))
    async with connection.transaction():
        await delivery_receipts.adopt(connection, one)
    return []


async def _apply_parked(
    connection: Connection, parked: Sequence[delivery_receipts.Parked], handoff: timedelta
) -> list[SendRequested]:
    for one in parked:
        await delivery_receipts.adopt(connection, one)
    found = await delivery_receipts.locate(connection, [one.arrived for one in parked])
    located = [(one.arrived, *found[i], one.status_id) for i, one in enumerate(parked) if i in found]
    return await _move(connection, located, handoff)


async def _move(connection: Connection, located: Sequence[_Located], handoff: timedelta) -> list[SendRequested]:
    if not located:
        return []
    # A fallback row, and what is sent anew, need their conversation's lock: it comes before those of messages.
    concerned = {
        (a.tenant_id, conversation) for a, _, conversation, doubtful, _ in located if doubtful or _window_closed(a)
    }
    if concerned:
        await conversations.lock(connection, concerned)
    rows = await delivery_receipts.lock_messages(connection, {(a.tenant_id, message) for a, message, *_ in located})

    # A message that was given up as unknown, or sent anew since, is still one that a receipt tells the truth about.
    status = {message_id: "unknown" if row.given_up else row.status for message_id, row in rows.items()}
    told: dict[UUID, Arrived] = {}
    applied: list[tuple[UUID, UUID]] = []
    for a, message_id, _, _, row_id in sorted(located, key=lambda one: one[0].received_at):
        target = after_receipt(status[message_id], a.receipt.status) if message_id in status else None
        if target is not None:
            status[message_id] = target
            told[message_id] = a
            applied.append((a.tenant_id, row_id))
    await delivery_receipts.move(connection, [_step(rows[i], a, status[i]) for i, a in told.items()])
    for i in told:
        if (resends := rows[i].resends) is not None:  # the provider has it after all
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
            for i, a in told.items()
        ),
    )
    await _tell_channels(connection, [(rows[i], a) for i, a in told.items() if status[i] == "failed"])
    refusals = [_refused(a, rows[i]) for a, i, *_ in located if i in rows and _opted_out(a)]
    await consenting.refused(connection, refusals)
    fallbacks = [
        await _fallback(connection, rows[i], a, handoff)
        for i, a in told.items()
        if status[i] == "failed" and _window_closed(a)
    ]
    return [request for request in fallbacks if request is not None]


async def _tell_channels(connection: Connection, failed: Sequence[tuple[Concerned, Arrived]]) -> None:
    """Let channels wait, or stop them, of which a provider says after the send what it may also answer to one: that
    they send too much, or that something about them is to be mended."""
    pauses: dict[tuple[UUID, UUID], float] = {}
    broken: dict[tuple[UUID, UUID], ChannelBroken] = {}
    for row, arrived in failed:
        if row.claimed_at is None or arrived.received_at - row.claimed_at > _NEWS:
            continue
        key = (row.tenant_id, row.channel_id)
        match by_receipt(row.provider, arrived.receipt.error_code or ""):
            case Throttled(scope="channel") as throttled:
                wait = min(throttled.retry_after or _PAUSE, _LONGEST_PAUSE)
                pauses[key] = max(wait, pauses.get(key, 0.0))
            case ChannelBroken(scope="channel") as one:
                broken.setdefault(key, one)
    for (tenant_id, channel_id), wait in sorted(pauses.items()):
        await sends.pause(connection, tenant_id, channel_id, timedelta(seconds=wait))
    for (tenant_id, channel_id), one in sorted(broken.items(), key=lambda item: item[0]):
        if await channels.stop(connection, tenant_id, channel_id, f"{one.code}: by receipt"):
            await record(connection, Event("channel.stopped", tenant_id, channel_id, detail={"error_code": one.code}))


def _window_closed(arrived: Arrived) -> bool:
    """Whether the provider says here, after it had accepted the message, that the 24-hour window was closed."""
    code = arrived.receipt.error_code
    return code is not None and provider(arrived.provider).error_class(code) is WindowClosed


def _opted_out(arrived: Arrived) -> bool:
    """Whether the provider says here that the customer does not want to be written to."""
    code = arrived.receipt.error_code
    return code is not None and provider(arrived.provider).error_class(code) is OptedOut


def _refused(arrived: Arrived, row: Concerned) -> consenting.Refused:
    return consenting.Refused(
        tenant_id=arrived.tenant_id,
        conversation_id=row.conversation_id,
        message_id=row.id,
        provider=arrived.provider,
        code=arrived.receipt.error_code or "",
        at=arrived.received_at
        if arrived.receipt.error_code in consents.BY_RECIPIENT
        else min(arrived.receipt.timestamp or row.claimed_at or arrived.received_at, arrived.received_at),
        inbound_id=arrived.inbound_id,
    )


def _step(row: Concerned, arrived: Arrived, status: str) -> Move:
    failed = status == "failed"
    receipt = arrived.receipt
    return Move(
        tenant_id=row.tenant_id,
        message_id=row.id,
        status=status,
        external_id=receipt.external_id,
        at=receipt.timestamp or arrived.received_at,
        error_code=(receipt.error_code or receipt.status) if failed else None,
        error_message=(receipt.error_message or "")[:500] or None if failed else None,
    )


async def _fallback(
    connection: Connection, row: Concerned, arrived: Arrived, handoff: timedelta
) -> SendRequested | None:
    """A new row in place of one that the provider refused by receipt; None where the policy is to let it fail.

    A template is not tried again: the window does not bind it, so another try would fail likewise.
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
            window_refused_at=row.claimed_at or arrived.received_at,
            metadata=stored(form_of(row.metadata)),
        ),
        handoff,
    )


__all__ = ["Arrived", "apply", "apply_parked"]
