"""What became of a send that nobody knows about: the provider's own list is asked, then the channel's policy decides.

Never by sending again: `unknown` leads to `sent` or `failed`, or to a person.
"""

from collections.abc import Sequence
from datetime import timedelta

from shared import topology
from shared.channels import Channel
from shared.crypto import CryptoError
from shared.messages import SendAdmitted
from shared.places import NoPlaceError, wait_for_place
from shared.providers.base import SentRecord
from shared.senders import Senders, outgoing
from shared.store import channels, messages, sends
from shared.store.events import Event, record
from shared.store.messages import Outbound
from shared.worker import Context


async def look_up(admitted: SendAdmitted, ctx: Context[Senders]) -> None:
    """Ask the provider's own list about a message of unknown outcome; after a while the channel's policy decides."""
    message = await sends.of_unknown(ctx.pool, admitted.tenant_id, admitted.message_id)
    if message is None or message.unknown_at is None:
        return
    channel = await channels.get(ctx.pool, message.tenant_id, message.channel_id)
    try:
        found = await _found(message, channel, ctx) if channel is not None else None
    except NoPlaceError:  # nobody was asked, so nothing is decided
        waited = message.now - message.unknown_at
        await sends.check_again(ctx.pool, message.tenant_id, message.id, wait_for_place(waited))
        return
    about = (message.tenant_id, message.channel_id, message.conversation_id, message.id)
    given_up = message.now - message.unknown_at >= timedelta(seconds=ctx.settings.unknown_give_up_after)
    async with ctx.transaction() as tx:
        if found is not None:
            if await sends.sent(tx, message.tenant_id, message.id, None, found.external_id) == "sent":
                await record(tx, Event("message.sent", *about, detail={"looked_up": True}))
        elif not given_up or (channel is not None and "unknown" in channel.unread):
            check = timedelta(seconds=ctx.settings.unknown_check_after)
            await sends.check_again(tx, message.tenant_id, message.id, check)
        elif channel is not None and channel.settings.unknown == "ask":
            await sends.leave_unknown(tx, message.tenant_id, message.id)
            await record(tx, Event("message.decision_wanted", *about))
        elif await messages.fail(
            tx, message.tenant_id, message.id, "unknown", "nobody knows whether it was sent", of=("unknown",)
        ):
            await record(tx, Event("message.failed", *about, detail={"error_code": "unknown"}))


async def _found(message: Outbound, channel: Channel, ctx: Context[Senders]) -> SentRecord | None:
    """The one entry in the provider's list that can only be this message. Raises NoPlaceError."""
    claimed_at = message.claimed_at or message.created_at
    try:
        sender = await ctx.resource.of(ctx.pool, channel)
    except (CryptoError, ValueError):
        return None  # the next message of the channel stops it and says why
    since = claimed_at - timedelta(seconds=5)
    with ctx.resource.lane(topology.send_queue(channel.provider, message.lane).name).held(channel.id):
        listed = await sender.find(outgoing(message, channel, ctx.settings.public_url), since)
    if not listed:
        return None
    # The rivals first: one whose id is recorded in between is then among the taken.
    rivals = await sends.rivals(ctx.pool, message)
    taken = await sends.taken(ctx.pool, message.tenant_id, message.channel_id, [entry.external_id for entry in listed])
    return the_one(message, [entry for entry in listed if entry.external_id not in taken], rivals)


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
    slack = timedelta(seconds=5)  # the provider's clock and ours; its list tells whole seconds
    plain = message.sent_as is None and message.template is None
    return (
        entry.created_at >= (message.claimed_at or message.created_at) - slack
        and entry.created_at <= (message.unknown_at or message.now) + slack
        and (not plain or entry.text.strip() == message.content.strip())
    )
