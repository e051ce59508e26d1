"""The verdicts on a message that is about to leave, as values, and how each but `Send` is written to its row."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.store import channels
from shared.store.events import Event, record
from shared.store.messages import bulk, outbound, sends
from shared.store.messages.outbound_rows import Outbound
from workers.send.resources import Ctx


@dataclass(frozen=True, slots=True)
class Send:
    """The gate lets it pass. Of all gates and the call: it was called, and the result is recorded.

    `ends_lane`: nothing is left in its lane.
    """

    ends_lane: bool = False


@dataclass(frozen=True, slots=True)
class Skip:
    """It is not ready, or another process has its lane or has moved it: nothing is written."""


@dataclass(frozen=True, slots=True)
class Late:
    """Its claim took so long that its slot had passed, and was released: it is the head of its lane again."""


@dataclass(frozen=True, slots=True)
class Reload:
    """Its channel has been changed since it was read, so the gates decide anew: nothing is written."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """ready → canceled."""

    code: str


@dataclass(frozen=True, slots=True)
class Fail:
    """ready → failed."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Requeue:
    """ready → queued: the window's policy decides anew."""

    code: str


@dataclass(frozen=True, slots=True)
class Postpone:
    """It is due again after `wait`. `throttled`: and does not leave before, whatever sends its lane."""

    wait: timedelta
    throttled: bool = True


@dataclass(frozen=True, slots=True)
class AwaitCampaign:
    """Its campaign is paused: it is due again after `wait`, and what comes behind it in the lane may leave."""

    wait: timedelta


@dataclass(frozen=True, slots=True)
class StopChannel:
    """Its channel can't send: it is stopped for this reason, and the message waits as all of the channel's do."""

    reason: str


Admission = Send | Skip | Late | Reload | Cancel | Fail | Requeue | Postpone | AwaitCampaign | StopChannel

# After these the next message of the lane is the head; after any other verdict the lane waits.
LEFT_THE_HEAD: Final = (Send, Cancel, Fail, Requeue)
SEND: Final = Send()
SKIP: Final = Skip()
LATE: Final = Late()
RELOAD: Final = Reload()


async def record_verdict(message: Outbound, verdict: Admission, ctx: Ctx) -> Admission:
    """Write a verdict to the message's row; returns it, or SKIP where the message has been moved meanwhile."""
    key = (message.tenant_id, message.id)
    about = (message.tenant_id, message.channel_id, message.conversation_id, message.id)
    is_written = True
    match verdict:
        case Cancel(code):
            async with ctx.transaction() as tx:
                is_written = await outbound.cancel(tx, *key, code)
        case Fail(code, reason):
            async with ctx.transaction() as tx:
                is_written = await outbound.fail(tx, *key, code, reason, of=("ready",))
                if is_written:
                    await record(tx, Event("message.failed", *about, detail={"error_code": code}))
        case Requeue(code):
            async with ctx.transaction() as tx:
                is_written = await sends.window_closed(tx, *key, None, by_provider=False, code=code)
        case Postpone(wait, throttled):
            await sends.postpone(ctx.pool, *key, wait, throttled=throttled)
        case AwaitCampaign(wait):
            await bulk.wait_for_campaign(ctx.pool, *key, wait)
        case StopChannel(reason):
            await _stop_channel(message, reason, ctx)
        case Send() | Skip() | Late() | Reload():
            pass
    return verdict if is_written else SKIP


async def _stop_channel(message: Outbound, reason: str, ctx: Ctx) -> None:
    async with ctx.transaction() as tx:
        if await channels.stop(tx, message.tenant_id, message.channel_id, reason[:500]):
            ctx.log.error("channel stopped", channel=str(message.channel_id), reason=reason)
            detail = {"error_code": "credentials"}
            await record(tx, Event("channel.stopped", message.tenant_id, message.channel_id, detail=detail))
