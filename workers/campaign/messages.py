"""Makes the messages of a page of recipients, in a few statements: consents and the window are decided here.

So they are born `ready`, and nothing of a campaign waits in the queue of answers to customers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from shared import database
from shared.actions import messaging_limit
from shared.actions.admission import decision_on, is_text_message, refusal_of
from shared.actions.campaign_forms import Forms, Said
from shared.actions.messages import wrong_text
from shared.database import Connection, new_id
from shared.database.each_row import skipped
from shared.domain import consents, message_form, sms_segments, window
from shared.domain.campaigns.settings import CampaignSettings, TenantCampaignSettings
from shared.domain.channels import Channel
from shared.domain.window import Fail
from shared.queue.jobs import SendReady
from shared.store import conversations
from shared.store.campaigns import pages
from shared.store.campaigns.pages import LeftOut, Recipient, Talk
from shared.store.campaigns.runs import Run
from shared.store.conversations import WantedConversation
from shared.store.events import Event, record
from shared.store.messages import bulk
from shared.store.messages.bulk import ReadyMessage
from shared.store.messages.outbound_rows import Outbound, media_json
from workers.campaign import variants


@dataclass(frozen=True, slots=True)
class Page:
    """What the messages of a page depend on, beside their recipients."""

    run: Run
    channel: Channel
    settings: CampaignSettings
    tenant: TenantCampaignSettings
    says: Forms
    handoff: timedelta

    @property
    def tenant_id(self) -> UUID:
        return self.channel.tenant_id

    @property
    def expires_at(self) -> datetime | None:
        """When messages that have not left are not to be sent any more."""
        return self.settings.ends_at if self.settings.at_end == "expire" else None


@dataclass(slots=True)
class _Outcome:
    """What becomes of the recipients of a page. One in neither list stays pending."""

    ready: list[ReadyMessage] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


async def make(tx: Connection, page: Page, recipients: Sequence[Recipient]) -> list[SendReady]:
    """Make a message for each recipient that may have one, in the caller's transaction; returns the jobs to publish.

    Recipients whose data the database refuses are `failed`, and hold up no other: the page is halved until such a one
    is alone.
    """
    if not recipients:
        return []
    try:
        async with tx.transaction():
            return await _make(tx, page, recipients)
    except Exception as error:
        if database.is_conflict(error) or not database.is_unstorable(error):
            raise
        if len(recipients) > 1:
            half = len(recipients) // 2
            return [*await make(tx, page, recipients[:half]), *await make(tx, page, recipients[half:])]
        (one,) = recipients
        skipped("campaign recipient", error, tenant=str(page.tenant_id), recipient=str(one.id))
        await pages.leave_out(tx, page.tenant_id, [(one.id, "failed", "not_storable", "its message can't be stored")])
        return []


async def _make(tx: Connection, page: Page, recipients: Sequence[Recipient]) -> list[SendReady]:
    outcome = _Outcome()
    reachable = [one for one in recipients if not _is_left_out(one, outcome)]
    locked = await _locked(tx, page, reachable)
    locked = await variants.assigned(tx, page.tenant_id, page.settings, page.says.winner, locked)
    for recipient, talk in locked:
        _decide(page, recipient, talk, outcome)
    common = bulk.Page(page.tenant_id, page.channel.id, page.channel.provider, page.expires_at)
    new = await bulk.add_ready(tx, common, outcome.ready, page.handoff) if outcome.ready else set()
    made = [one for one in outcome.ready if one.id in new]
    closed = {talk.id for _, talk in locked if not window.is_open(talk.last_user_message_at, talk.now)}
    templates = [one.conversation_id for one in made if one.template is not None and one.conversation_id in closed]
    await messaging_limit.count(tx, page.channel, templates)
    outcome.left_out += [
        (one.campaign_recipient_id, "skipped", "duplicate", "the campaign has a message to this contact already")
        for one in outcome.ready
        if one.id not in new
    ]
    if outcome.left_out:
        await pages.leave_out(tx, page.tenant_id, outcome.left_out)
    about = (page.tenant_id, page.channel.id)
    await record(tx, *(Event("message.queued", *about, one.conversation_id, one.id) for one in made))
    return [
        SendReady(
            tenant_id=page.tenant_id,
            channel_id=page.channel.id,
            conversation_id=one.conversation_id,
            message_id=one.id,
            provider=page.channel.provider,
            lane="bulk",
        )
        for one in made
    ]


def _is_left_out(one: Recipient, outcome: _Outcome) -> bool:
    """Whether the contact has changed since the campaign began so that nothing can be sent to it."""
    reason = "deleted" if one.is_deleted else "inactive" if not one.is_active else None if one.address else "no_address"
    if reason is not None:
        outcome.left_out.append((one.id, "skipped", reason, None))
    return reason is not None


async def _locked(tx: Connection, page: Page, recipients: Sequence[Recipient]) -> list[tuple[Recipient, Talk]]:
    """The recipients with their conversations, all locked; without those that another session has locked.

    Of several that share a conversation only the first: the others follow with the next page.
    """
    found = await conversations.find_or_make(tx, [_wanted(page.channel, one) for one in recipients])
    first: dict[UUID, Recipient] = {}
    for recipient, conversation in zip(recipients, found, strict=True):
        first.setdefault(conversation.id, recipient)
    free = [found_id for _, found_id in await conversations.lock_free(tx, [(page.tenant_id, one) for one in first])]
    pending = await pages.lock(tx, page.tenant_id, [first[one].id for one in free])
    talks = await pages.talks(tx, page.tenant_id, [one for one in free if first[one].id in pending])
    return [(first[one], talks[one]) for one in free if one in talks]


def _wanted(channel: Channel, one: Recipient) -> WantedConversation:
    assert one.address is not None, "those without are left out"
    is_chat = channel.provider == "kommo"
    is_phone = one.kind == "phone" or (one.kind is None and one.address.startswith("+"))
    given = one.given or one.address
    return WantedConversation(
        tenant_id=channel.tenant_id,
        channel_id=channel.id,
        provider=channel.provider,
        addresses=(one.address,),
        recipient=given,
        phone=given if is_phone and not is_chat else None,
        contact_id=one.contact_id,
        contact_name=one.name,
        kommo_chat_id=one.address if is_chat else None,
    )


def _decide(page: Page, recipient: Recipient, talk: Talk, outcome: _Outcome) -> None:
    """Add the recipient's message, or why it gets none, to the outcome."""

    def leave_out(status: str, reason: str, detail: str | None) -> None:
        outcome.left_out.append((recipient.id, status, reason, detail))

    try:
        values = {name: str(value) for name, value in recipient.message_data.items()}
        said = page.says.said(recipient.variant, values, talk)
    except (KeyError, ValueError) as error:
        leave_out("skipped", "missing_variables", f"{error}"[:500])
        return
    message = _outbound(page, said, talk)
    wrong = None
    if said.template is None and (said.content or not said.media):
        wrong = wrong_text(page.channel.provider, page.channel.kind, said.content)
    refusal = refusal_of(message, page.channel) or decision_on(message, page.channel)
    if isinstance(refusal, Fail):
        is_no_fault = refusal.code in (consents.OPTED_OUT, "window_closed")
        leave_out("skipped" if is_no_fault else "failed", refusal.code, refusal.reason)
    elif wrong is not None:
        leave_out("failed", "wrong_text", wrong)
    else:
        outcome.ready.append(_ready(page, recipient, message, said))


def _outbound(page: Page, said: Said, talk: Talk) -> Outbound:
    """The message as the rules of admission look at it."""
    return Outbound(
        id=new_id(),
        tenant_id=page.tenant_id,
        conversation_id=talk.id,
        channel_id=page.channel.id,
        lane="bulk",
        content=said.content,
        media=said.media,
        form=said.form,
        template=said.template,
        window_policy="fail",
        created_at=talk.now,
        recipient=talk.recipient,
        contact_name=talk.contact_name,
        last_user_message_at=talk.last_user_message_at,
        now=talk.now,
        stopped_by=talk.stopped_by,
    )


def _ready(page: Page, recipient: Recipient, message: Outbound, said: Said) -> ReadyMessage:
    campaign_id = page.run.campaign.id
    facts = sms_segments.facts(said.content) if is_text_message(message, page.channel) else {}
    return ReadyMessage(
        id=message.id,
        conversation_id=message.conversation_id,
        campaign_recipient_id=recipient.id,
        dedupe_key=f"campaign:{campaign_id}:{recipient.contact_id}",
        content=said.content,
        message_type=said.message_type,
        media=[media_json(part) for part in said.media],
        template=said.template,
        metadata={**message_form.stored(said.form), **facts, "campaign_id": str(campaign_id)},
    )
