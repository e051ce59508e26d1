"""What became of a send that nobody knows about: the provider's own list is asked, then the channel's policy decides.

`unknown` leads to `sent` or `failed`, or to a person. Only where two looks at a complete list, a while apart, found
nothing that it may be, and the policy says so, does it leave again, as a message of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from shared import database
from shared.crypto import CryptoError
from shared.domain.channels import Channel, Unknown
from shared.providers.base import SentRecord
from shared.queue import topology
from shared.queue.jobs import SendAdmitted
from shared.queue.worker import Context
from shared.resilience.bulkhead import BulkheadFull, wait_when_full
from shared.sending.senders import Senders, outgoing
from shared.store import channels
from shared.store.events import Event, record
from shared.store.messages import outbound, sends, unknown_sends
from shared.store.messages.outbound import Outbound

Step = Literal["sent", "look_again", "absent", "resend", "ask", "give_up"]


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at the provider's list told: the message's entry, or that it has none. Neither: it can't be told."""

    entry: SentRecord | None = None
    absent: bool = False


NOTHING = Looked()
AROUND = timedelta(minutes=1)  # before the claim: however far the provider's clock is behind ours, it is in the list
SLACK = timedelta(seconds=5)  # between the provider's clock and ours; its list tells whole seconds


async def look_up(admitted: SendAdmitted, ctx: Context[Senders]) -> None:
    """Ask the provider's own list about a message of unknown outcome; after a while the channel's policy decides."""
    message = await sends.of_unknown(ctx.pool, admitted.tenant_id, admitted.message_id)
    if message is None or message.unknown_at is None:
        return
    channel = await channels.get(ctx.pool, message.tenant_id, message.channel_id)
    try:
        looked = await _look(message, channel, ctx) if channel is not None else NOTHING
    except BulkheadFull:  # nobody was asked, so nothing is decided
        waited = message.now - message.unknown_at
        await sends.check_again(ctx.pool, message.tenant_id, message.id, wait_when_full(waited))
        return
    next_step = step(
        looked,
        None if channel is None or "unknown" in channel.unread else channel.unknown,
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
                    named = unknown_sends.Named(message.tenant_id, message.conversation_id, message.id)
                    await unknown_sends.resend_absent(tx, named)
                except unknown_sends.Refused as why:
                    await _give_up(tx, message, f"it {why}")
            case "ask":
                await sends.leave_unknown(tx, *key)
                await record(tx, Event("message.decision_wanted", *about))
            case "give_up":
                await _give_up(tx, message, "nobody knows whether it was sent")


def step(
    looked: Looked,
    policy: Unknown | None,
    *,
    deleted: bool = False,
    unknown_for: timedelta,
    absent_for: timedelta | None,
    give_up_after: timedelta,
    look_apart: timedelta,
) -> Step:
    """What follows from a look. `absent_for`: since the first of the looks that found nothing; `policy` None: it can't
    be read, so nothing is decided, or the channel is gone."""
    if looked.entry is not None:
        return "sent"
    if looked.absent and policy == "resend_if_absent":
        return "resend" if absent_for is not None and absent_for >= look_apart else "absent"
    if unknown_for < give_up_after or (policy is None and not deleted):
        return "look_again"
    return "ask" if policy == "ask" else "give_up"


async def _give_up(tx: database.Connection, message: Outbound, reason: str) -> None:
    if await outbound.fail(tx, message.tenant_id, message.id, "unknown", reason, of=("unknown",)):
        about = (message.tenant_id, message.channel_id, message.conversation_id, message.id)
        await record(tx, Event("message.failed", *about, detail={"error_code": "unknown"}))


async def _look(message: Outbound, channel: Channel, ctx: Context[Senders]) -> Looked:
    """What the provider's list says of the message, by the addresses it was sent with. Raises BulkheadFull."""
    asked, same = as_called(message, channel)
    claimed_at = message.claimed_at or message.created_at
    try:
        sender = await ctx.resource.of(ctx.pool, channel)
    except (CryptoError, ValueError):
        return NOTHING  # the next message of the channel stops it and says why
    with ctx.resource.bulkhead(topology.send_queue(channel.provider, message.lane).name).acquire(channel.id):
        listed = await sender.find(outgoing(*asked, ctx.settings.public_url), claimed_at - AROUND)
    if listed is None:
        return NOTHING
    # The rivals first: one whose id is recorded in between is then among the taken.
    rivals = await sends.rivals(ctx.pool, message)
    ids = [entry.external_id for entry in listed.entries]
    taken = await sends.taken(ctx.pool, message.tenant_id, message.channel_id, ids)
    left = [entry for entry in listed.entries if entry.external_id not in taken]
    # Whatever its text says: the provider may have changed it. What is left may be a rival's, and tells nothing yet.
    return Looked(the_one(message, left, rivals), absent=same and listed.complete and not left)


def as_called(message: Outbound, channel: Channel) -> tuple[tuple[Outbound, Channel], bool]:
    """The message and its channel with the addresses of the claim, and whether the channel is still as it was then.

    Where it is not, another account may be asked: what its list lacks may have left all the same.
    """
    if message.called is None:
        return (message, channel), False
    asked = replace(message, recipient=message.called.recipient), replace(channel, address=message.called.address)
    return asked, channel.updated_at == message.called.as_of


def the_one(message: Outbound, entries: Sequence[SentRecord], rivals: Sequence[Outbound]) -> SentRecord | None:
    """The entry that is this message: the only one that may be it, and that may be no rival's.

    `rivals` are the other messages to this recipient that the provider may have taken without our knowing its id.
    """
    if named := [entry for entry in entries if entry.message_id == message.id]:
        return named[0]
    near = [entry for entry in entries if entry.message_id is None and _may_be(message, entry)]
    if len(near) != 1 or any(_may_be(rival, near[0]) for rival in rivals):
        return None
    return near[0]


def _may_be(message: Outbound, entry: SentRecord) -> bool:
    """Whether the entry is of the message's text (of any text, for a template) and from about its time."""
    plain = message.sent_as is None and message.template is None
    return (
        entry.created_at >= (message.claimed_at or message.created_at) - SLACK
        and entry.created_at <= (message.unknown_at or message.now) + SLACK
        and (not plain or entry.text.strip() == message.content.strip())
    )
