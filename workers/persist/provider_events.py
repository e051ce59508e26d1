"""Collects what a provider reports beside messages and receipts: events, consents, templates, limits. No I/O."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from shared.actions import consents as consent_actions
from shared.actions import messaging_limit, template_updates
from shared.domain import consents
from shared.domain.model import Consent
from shared.providers.base import Notice
from shared.store.events import Event
from workers.persist.parsing import ParsedWebhook
from workers.persist.routing import channel_at

# Fields of a notice that an event may hold; the others may hold texts and addresses.
NOTICE_FACTS = (
    "change", "EventType", "CallStatus", "event", "decision", "code", "current_limit", "message_template_name",
    "message_template_language", "title", "new_category",
)  # fmt: skip


def notices(webhooks: Sequence[ParsedWebhook]) -> list[Event]:
    """Events of the webhooks' notices, for each tenant concerned; the webhook itself is in `inbound_log`."""
    return [
        Event(
            f"provider.{notice.name}",
            tenant_id,
            channel_id,
            detail={"inbound_id": parsed.webhook.inbound_id, **_facts(notice.data)},
        )
        for parsed in webhooks
        for notice in parsed.content.notices
        for tenant_id, channel_id in _concerned(parsed, notice)
    ]


def template_changes(webhooks: Sequence[ParsedWebhook]) -> list[template_updates.ChannelChange]:
    """What the webhooks say of message templates, for each channel of their business account.

    Not by a replayed webhook: its news may be old, and a sync asks for the state of today.
    """
    return [
        template_updates.ChannelChange(channel.tenant_id, channel.id, change)
        for parsed in webhooks
        if not parsed.webhook.replayed
        for notice in parsed.content.notices
        if (change := notice.template) is not None
        for channel in parsed.served
        if change.account and channel.business_id == change.account
    ]


def limit_changes(webhooks: Sequence[ParsedWebhook]) -> list[messaging_limit.ChannelLimit]:
    """The messaging limits in the webhooks, for each channel of their business account; the last one counts."""
    return [
        messaging_limit.ChannelLimit(channel.tenant_id, channel.id, limit.people)
        for parsed in webhooks
        if not parsed.webhook.replayed
        for notice in parsed.content.notices
        if (limit := notice.limit) is not None
        for channel in parsed.served
        if channel.business_id == limit.account
    ]


def provider_consents(webhooks: Sequence[ParsedWebhook]) -> list[consent_actions.ProviderConsent]:
    """Consents in notices, and in mails whose author asks for the answer to go to another address."""
    return [*_consents_of_notices(webhooks), *_consents_of_authors(webhooks)]


def _consents_of_authors(webhooks: Sequence[ParsedWebhook]) -> list[consent_actions.ProviderConsent]:
    found = []
    for parsed in webhooks:
        for channel, m in parsed.messages:
            change = None if m.author is None else consents.consent_change(m, channel.words)
            if m.author is not None and change is not None and change.proven:
                consent = Consent(change.state, change.scope, channel.kind, m.author)
                webhook = parsed.webhook
                found.append(
                    consent_actions.ProviderConsent(
                        channel.tenant_id, channel.provider, consent, webhook.inbound_id, webhook.received_at
                    )
                )
    return found


def _consents_of_notices(webhooks: Sequence[ParsedWebhook]) -> list[consent_actions.ProviderConsent]:
    return [
        consent_actions.ProviderConsent(
            tenant_id, parsed.webhook.provider, notice.consent, parsed.webhook.inbound_id, parsed.webhook.received_at
        )
        for parsed in webhooks
        for notice in parsed.content.notices
        if notice.consent is not None
        for tenant_id, _ in _concerned(parsed, notice)
    ]


def _concerned(parsed: ParsedWebhook, notice: Notice) -> list[tuple[UUID, UUID | None]]:
    """(tenant, channel) of those that a notice concerns: by the channel that it names, else by the account, else by the
    endpoint. Empty where it could be several tenants': none may learn of another's account."""
    if notice.channel_address:
        channel = channel_at(parsed.served, notice.channel_address)
        return [(channel.tenant_id, channel.id)] if channel is not None else []
    if parsed.webhook.tenant_id is not None:
        return [(parsed.webhook.tenant_id, None)]
    account = notice.data.get("waba_id")
    owners = {c.tenant_id for c in parsed.served if account is not None and c.business_id == account}
    every = {c.tenant_id for c in parsed.served}
    return [(tenant_id, None) for tenant_id in sorted(owners or (every if len(every) == 1 else ()))]


def _facts(data: Mapping[str, object]) -> dict[str, str]:
    return {name: str(data[name])[:100] for name in NOTICE_FACTS if data.get(name)}
