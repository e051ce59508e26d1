"""SendRequested → consents, 24-hour window → SendAdmitted."""

from datetime import timedelta

from shared.actions import messaging_limit
from shared.actions.admission import decision_on, is_text_message, refusal_of
from shared.domain import sms_segments
from shared.domain.channels import UNREAD_WAIT
from shared.domain.window import Admit, Decision, Fail, Hold, is_open
from shared.queue import topology
from shared.queue.jobs import SendAdmitted, SendRequested
from shared.queue.worker import Context, Worker
from shared.store import channels, conversations, due_rows
from shared.store.events import Event, record
from shared.store.messages import outbound
from shared.store.messages.outbound_rows import Outbound, send_job

worker: Worker[SendRequested, None] = Worker(
    name="window",
    queues=(topology.WINDOW,),
    consumes=SendRequested,
    publishes=(SendAdmitted,),
    concurrency=8,  # each takes a connection of the pool for three short statements
)


@worker.handle
async def admit(request: SendRequested, ctx: Context[None]) -> None:
    handoff = timedelta(seconds=ctx.settings.handoff_lease)
    async with ctx.transaction() as tx:
        # persist takes this lock too, so a message is never held at the moment at which a customer's opens the window.
        await conversations.lock(tx, {(request.tenant_id, request.conversation_id)})
        message = await outbound.lock_queued(tx, request.tenant_id, request.message_id)
        if message is None:
            return  # it was decided before: this job came twice
        channel = await channels.get(tx, message.tenant_id, message.channel_id)
        if channel is None:
            await outbound.cancel(tx, message.tenant_id, message.id, "channel_deleted")
            return
        refusal = refusal_of(message, channel)
        decision = refusal or decision_on(message, channel)
        if "window" in channel.unread and refusal is None and not isinstance(decision, Admit):
            await outbound.postpone(tx, message.tenant_id, message.id, UNREAD_WAIT, of=("queued",))
            return  # a process that can read the channel's policy applies it
        match decision:
            case Admit(template):
                sent_as = template if template != message.template else None
                facts = sms_segments.facts(message.content) if is_text_message(message, channel) else None
                await outbound.admit(tx, message.tenant_id, message.id, sent_as, handoff, facts)
                if template is not None and not is_open(message.last_user_message_at, message.now):
                    await messaging_limit.count(tx, channel, [message.conversation_id])
            case Hold():
                hold_for = timedelta(seconds=channel.settings.window.hold_for)
                await outbound.hold(tx, message.tenant_id, message.id, hold_for)
            case Fail(code, reason):
                await outbound.fail(tx, message.tenant_id, message.id, code, reason, of=("queued",))
        await record(tx, *_events(message, decision))
        # A message held or failed no longer blocks the next one of its lane, which may have been admitted earlier.
        lane = (message.tenant_id, message.conversation_id, message.lane)
        freed = [] if isinstance(decision, Admit) else await due_rows.next_in_lanes(tx, [lane])
    if isinstance(decision, Admit):
        freed = [send_job(message, channel.provider)]
    await ctx.publish(*(job.model_copy(update={"trace": request.trace}) for job in freed))


@worker.postpone
async def postpone(request: SendRequested, ctx: Context[None], wait: timedelta | None) -> None:
    await outbound.postpone(ctx.pool, request.tenant_id, request.message_id, wait, of=("queued",))


def _events(message: Outbound, decision: Decision) -> list[Event]:
    about = (message.tenant_id, message.channel_id, message.conversation_id, message.id)
    match decision:
        case Hold():
            return [Event("message.held", *about)]
        case Fail(code, _):
            return [Event("message.failed", *about, detail={"error_code": code})]
        case Admit():
            return []
