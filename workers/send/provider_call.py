"""Makes one provider call: claims the message, sends it, and has the result recorded.

All that the call needs is ready by then, so that it follows the claim's commit at once: whatever kills the process in
between leaves the message `unknown`.
"""

import time
from typing import Final

from shared.process import metrics
from shared.sending.pacer import SlotTooFar
from shared.store.messages.send_batches import Claim
from workers.send import recording
from workers.send.admission import LATE, RELOAD, SKIP, Admission
from workers.send.gates import Attempt
from workers.send.recording import Call
from workers.send.resources import Ctx

LONGEST_CLAIMED: Final = 0.5  # seconds that a claimed message waits for another slot


async def claim_and_send(attempt: Attempt, ctx: Ctx) -> Admission:
    """Claim the message, call the provider, record the result. Skip where the claim was not to be had, Late where its
    slot has passed."""
    message, channel = attempt.message, attempt.channel
    batches, claim = ctx.resource.batches(ctx), Claim(message, channel)
    before, before_wall = time.monotonic(), time.time()
    if (outcome := await batches.claim(claim)) != "claimed":
        return RELOAD if outcome == "channel_changed" else SKIP
    took = time.monotonic() - before
    ctx.resource.pacer.claiming.took(took)
    call = Call(message, channel, claim.id, batches.lease)
    on_time = await _wait_for_slot(attempt, ctx)
    started = time.monotonic()
    # The lease runs from the claim. A call that begins too late would go on beyond it, perhaps after look-ups have
    # found the message absent. Two clocks, for a suspended machine stops the one and a correction moves the other.
    took_too_long = max(started - before, time.time() - before_wall) > ctx.settings.send_lease_margin
    if not on_time or took_too_long:
        ctx.resource.pacer.claiming.missed(took)
        await recording.release(call, "late_claim", "its claim took too long, so it was not sent on it", ctx)
        return SKIP if took_too_long else LATE  # what held the claim up for so long may hold up the next one
    result = await attempt.sender.send(attempt.leaving)
    metrics.SEND_SECONDS.labels(channel.provider).observe(time.monotonic() - started)
    metrics.SENDS.labels(channel.provider, type(result).__name__.lower()).inc()
    return await recording.record_result(call, result, ctx)


async def _wait_for_slot(attempt: Attempt, ctx: Ctx) -> bool:
    """Whether there is a slot for the call now; it waits for one that is near."""
    try:
        await attempt.turn.slot(LONGEST_CLAIMED)
    except SlotTooFar:
        return False
    except Exception as error:  # whatever it is, the message was not sent
        ctx.log.warning("no slot for a claimed message", message=str(attempt.message.id), error=type(error).__name__)
        return False
    return True
