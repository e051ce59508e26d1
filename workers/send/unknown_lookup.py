"""Finds out whether a message of unknown outcome was sent: by the provider's list, then by the channel's policy.

`unknown` leads to `sent` or `failed`, or waits for a person. The message is sent again, as a new message, only where
the policy says so and two look-ups of a complete list, some time apart, have found no entry that it may be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from shared import database
from shared.crypto import CryptoError
from shared.domain.channels import Channel, Unknown
from shared.providers import provider
from shared.providers.base import SentRecord
from shared.queue.jobs import UnknownDue
from shared.sending.senders import outgoing
from shared.store import channels
from shared.store.events import Event, record
from shared.store.messages import outbound, sends, unknown_sends
from shared.store.messages.outbound_rows import Outbound
from workers.send.resources import Ctx

Step = Literal["sent", "look_again", "absent", "resend", "ask", "give_up"]


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What the provider's list shows: the message's entry, or that it is absent. Neither: the list does not decide
    it."""

    entry: SentRecord | None = None
    absent: bool = False


NOTHING = LookupResult()
AROUND = timedelta(minutes=1)  # before the claim, so that an entry is listed though the provider's clock is behind
SLACK = timedelta(seconds=5)  # between the provider's clock and ours; its list gives whole seconds


def policy_of(channel: Channel) -> Unknown:
    """The channel's policy for a send of unknown outcome; its provider's where its settings name none."""
    return channel.settings.unknown or provider(channel.provider).unknown


async def look_up(due: UnknownDue, ctx: Ctx) -> None:
    """Look a message of unknown outcome up in the provider's list; after a while the channel's policy decides."""
    message = await sends.of_unknown(ctx.pool, due.tenant_id, due.message_id)
    if message is None or message.unknown_at is None:
        return
    channel = await channels.get(ctx.pool, message.tenant_id, message.channel_id)
    looked = await _look(message, channel, ctx) if channel is not None else NOTHING
    next_step = step(
        looked,
        None if channel is None or "unknown" in channel.unread else policy_of(channel),
        deleted=channel is None,
        unknown_for=message.now - message.unknown_at,
        absent_for=None if message.absent_at is None else message.now - message.absent_at,
        give_up_after=timedelta(seconds=ctx.settings.unknown_give_up_after),
        look_apart=timedelta(seconds=ctx.settings.unknown_absent_for),
    )
    key = (message.tenant_id, message.id)
    about = (message.tenant_id, message.channel_id, message.conversation_id, message.id)
    async with ctx.transaction() as tx:
        match next_step:
            case "sent":
                assert looked.entry is not None
                if await sends.sent(tx, *key, None, looked.entry.external_id) == "sent":
                    await record(tx, Event("message.sent", *about, detail={"looked_up": True}))
            case "look_again":
                await sends.check_again(tx, *key, timedelta(seconds=ctx.settings.unknown_check_after))
            case "absent":
                await sends.absent(tx, *key, timedelta(seconds=ctx.settings.unknown_absent_for))
            case "resend":
                try:
                    named = unknown_sends.OutboundRef(message.tenant_id, message.conversation_id, message.id)
                    await unknown_sends.resend_absent(tx, named)
                except unknown_sends.DecisionRefused as why:
                    await _abandon(tx, message, f"it {why}")
            case "ask":
                await sends.leave_unknown(tx, *key)
                await record(tx, Event("message.decision_wanted", *about))
            case "give_up":
                await _abandon(tx, message, "it is not known whether it was sent")


def step(
    looked: LookupResult,
    policy: Unknown | None,
    *,
    deleted: bool = False,
    unknown_for: timedelta,
    absent_for: timedelta | None,
    give_up_after: timedelta,
    look_apart: timedelta,
) -> Step:
    """What follows from a look-up. `absent_for`: since the first look-up that found it absent; `policy` None: it can't
    be read, so nothing is decided, or the channel is gone."""
    if looked.entry is not None:
        return "sent"
    if looked.absent and policy == "resend_if_absent":
        return "resend" if absent_for is not None and absent_for >= look_apart else "absent"
    if unknown_for < give_up_after or (policy is None and not deleted):
        return "look_again"
    return "ask" if policy == "ask" else "give_up"


async def _abandon(tx: database.Connection, message: Outbound, reason: str) -> None:
    if await outbound.fail(tx, message.tenant_id, message.id, "unknown", reason, of=("unknown",)):
        about = (message.tenant_id, message.channel_id, message.conversation_id, message.id)
        await record(tx, Event("message.failed", *about, detail={"error_code": "unknown"}))


async def _look(message: Outbound, channel: Channel, ctx: Ctx) -> LookupResult:
    """Look for the message in the provider's list, by the addresses it was sent with."""
    called, same = as_called(message, channel)
    claimed_at = message.claimed_at or message.created_at
    try:
        sender = await ctx.resource.of(ctx.pool, channel)
    except (CryptoError, ValueError):
        return NOTHING  # the channel's next message stops the channel with the reason
    listed = await sender.find(outgoing(*called, ctx.settings.public_url), claimed_at - AROUND)
    if listed is None:
        return NOTHING
    # The candidates are read first: a message whose id is recorded in between is then among those already matched.
    candidates = await sends.candidates(ctx.pool, message)
    ids = [entry.external_id for entry in listed.entries]
    already_matched = await sends.already_matched(ctx.pool, message.tenant_id, message.channel_id, ids)
    left = [entry for entry in listed.entries if entry.external_id not in already_matched]
    # Absent only where no entry is left, whatever its text: the provider may have changed the text, and the entry may
    # be this message or one of the candidates.
    return LookupResult(match_sent_message(message, left, candidates), absent=same and listed.complete and not left)


def as_called(message: Outbound, channel: Channel) -> tuple[tuple[Outbound, Channel], bool]:
    """The message and its channel with the addresses of the claim, and whether the channel is still as it was then.

    Where it is not, the list may be another account's: a message absent from it may have been sent all the same.
    """
    if message.called is None:
        return (message, channel), False
    called = replace(message, recipient=message.called.recipient), replace(channel, address=message.called.address)
    return called, channel.updated_at == message.called.as_of


def match_sent_message(
    message: Outbound, entries: Sequence[SentRecord], candidates: Sequence[Outbound]
) -> SentRecord | None:
    """The entry that is this message; None where more than one may be it, or the one may be another candidate's.

    `candidates` are the other messages to this recipient that the provider may have accepted under an id we don't know.
    """
    if named := [entry for entry in entries if entry.message_id == message.id]:
        return named[0]
    near = [entry for entry in entries if entry.message_id is None and _may_be(message, entry)]
    if len(near) != 1 or any(_may_be(candidate, near[0]) for candidate in candidates):
        return None
    return near[0]


def _may_be(message: Outbound, entry: SentRecord) -> bool:
    """Whether the entry has the message's text (for a template: any text) and about its time."""
    plain = message.sent_as is None and message.template is None
    return (
        entry.created_at >= (message.claimed_at or message.created_at) - SLACK
        and entry.created_at <= (message.unknown_at or message.now) + SLACK
        and (not plain or entry.text.strip() == message.content.strip())
    )
