"""What webhooks hold, and whom it concerns: each parsed by its provider, each part with its channel. No I/O."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shared.actions import consents as consent_actions
from shared.domain import addresses, consents
from shared.domain.channels import Channel
from shared.domain.model import AgentMessage, Consent, InboundMessage, Receipt
from shared.providers import provider, traits
from shared.providers.base import SOLE_CHANNEL, Notice, Parsed, RawWebhook
from shared.queue.jobs import WebhookReceived
from shared.store import webhook_log
from shared.store.events import Event
from shared.store.webhook_log import Logged

PARSED_AT_ONCE = 20  # webhooks parsed before other tasks run, about half a millisecond
_NULS = ((b"%00", b"%EF%BF%BD"), (b"\\u0000", b"\\ufffd"), (b"\0", "\ufffd".encode()))


@dataclass(slots=True)
class ParsedWebhook:
    """A webhook as parsed, with what of it has a channel of ours."""

    webhook: WebhookReceived
    content: Parsed
    served: Sequence[Channel] = ()  # the channels that may be meant
    messages: list[tuple[Channel, InboundMessage]] = field(default_factory=list)
    receipts: list[tuple[Channel, Receipt]] = field(default_factory=list)
    agent_messages: list[tuple[Channel, AgentMessage]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def logged(self) -> Logged:
        errors = [*self.content.errors, *self.errors]
        held = bool(self.messages or self.receipts or self.agent_messages or self.content.notices)
        outcome: webhook_log.Outcome = "parsed" if not errors else "partly" if held else "unparsed"
        return Logged(self.webhook, outcome, "; ".join(errors)[:2000] or None)


def deduplicated(webhooks: Sequence[WebhookReceived]) -> list[WebhookReceived]:
    """Each webhook of a batch once, in their order: of the same one twice the replay, else the earlier, for the window
    opens by its time."""
    chosen: dict[str, WebhookReceived] = {}
    for webhook in webhooks:
        known = chosen.get(webhook.inbound_id, webhook)
        better = (webhook.replayed, -webhook.received_at.timestamp()) > (known.replayed, -known.received_at.timestamp())
        chosen[webhook.inbound_id] = webhook if better else known
    return list(chosen.values())


async def parse_all(webhooks: Sequence[WebhookReceived]) -> dict[str, ParsedWebhook]:
    """Each webhook parsed, by its id. In between, the batch that holds locks gets its turn."""
    found: dict[str, ParsedWebhook] = {}
    for number, webhook in enumerate(webhooks):
        if number % PARSED_AT_ONCE == 0:
            await asyncio.sleep(0)
        found[webhook.inbound_id] = ParsedWebhook(webhook, parse(webhook))
    return found


def parse(webhook: WebhookReceived) -> Parsed:
    """Read a webhook by its provider's module. Never raises for what it holds."""
    body = webhook.raw_body
    return provider(webhook.provider).parse(
        RawWebhook(
            webhook.method,
            without_nul(webhook.url.encode()).decode(),
            webhook.content_type,
            webhook.headers,
            body if traits(webhook.provider).reads_nul else without_nul(body),
        )
    )


def without_nul(raw: bytes) -> bytes:
    """U+FFFD in place of U+0000, as it stands in a form, in JSON, or plainly: PostgreSQL takes none in text or jsonb,
    and one of them would fail the whole batch. The raw webhook keeps it."""
    for written, instead in _NULS:
        if written in raw:
            raw = raw.replace(written, instead)
    return raw


# -- whose it is -------------------------------------------------------------------------------------------------------


def assign_channels(webhooks: Sequence[ParsedWebhook], channels: Iterable[Channel]) -> None:
    """Give each message and receipt its channel, of these that its endpoint serves."""
    by_endpoint: defaultdict[UUID, list[Channel]] = defaultdict(list)
    for channel in channels:
        if channel.endpoint_id is not None:
            by_endpoint[channel.endpoint_id].append(channel)
    for parsed in webhooks:
        webhook = parsed.webhook
        # An endpoint of no tenant serves several; any other one serves its own tenant's channels and no others.
        served = [c for c in by_endpoint[webhook.endpoint_id] if webhook.tenant_id in (None, c.tenant_id)]
        parsed.served = served
        for message in parsed.content.messages:
            to = channel_of_message(served, message)
            if to is not None:
                parsed.messages.append((to, message))
            else:
                parsed.errors.append(_no_channel_error(message.channel_kind))
        for written in parsed.content.agent_messages:
            of_kind = [channel for channel in served if channel.kind == written.channel_kind]
            through = _addressed(of_kind, written.channel_address)
            if through is not None:
                parsed.agent_messages.append((through, written))
            else:
                parsed.errors.append(_no_channel_error(written.channel_kind))
        for receipt in parsed.content.receipts:
            sender = channel_of_receipt(served, receipt)
            if sender is not None:
                parsed.receipts.append((sender, receipt))
            else:
                parsed.errors.append("this endpoint has no channel for the receipt")


def _no_channel_error(kind: str) -> str:
    return (
        f"no {kind} channel of this endpoint, or one of several tenants, has the address "
        "the message came to; add it with `palomar channels add`, then `palomar replay`"
    )


def channel_of_message(served: Sequence[Channel], message: InboundMessage) -> Channel | None:
    """The channel a message came to: by its address, else by the messaging service it names."""
    service = message.extra.get("MessagingServiceSid")
    of_kind = [channel for channel in served if channel.kind == message.channel_kind]
    found = _addressed(of_kind, message.channel_address) or next((c for c in of_kind if c.address == service), None)
    return found or (_mailbox(of_kind, message) if message.channel_kind == "email" else None)


def _mailbox(of_kind: Sequence[Channel], message: InboundMessage) -> Channel | None:
    """The channel of a mail by any of those it went to; of one that was forwarded to us, the endpoint's only one."""
    named = message.extra.get("recipients")
    every = [str(one) for one in named] if isinstance(named, list) else []
    plain = [_without_tag(one) for one in every]  # RFC 5233: `hola+order17@` is `hola@`
    found = [c for c in of_kind if c.address.lower() in every] or [c for c in of_kind if c.address.lower() in plain]
    return found[0] if found else of_kind[0] if len(of_kind) == 1 else None


def _without_tag(address: str) -> str:
    user, at, domain = address.rpartition("@")
    return f"{user.partition('+')[0]}{at}{domain}"


def channel_of_receipt(served: Sequence[Channel], receipt: Receipt) -> Channel | None:
    """The channel a receipt belongs to: the one it names. Where it names none, which of several of a kind only matters
    to a receipt that is parked."""
    if receipt.channel_address:
        return _addressed(served, receipt.channel_address)
    sender = str(receipt.extra.get("From", "")).removeprefix("whatsapp:")
    of_kind = [c for c in served if receipt.channel_kind in (None, c.kind)] or list(served)
    return next((c for c in of_kind if c.address == sender), of_kind[0] if of_kind else None)


def _addressed(served: Sequence[Channel], address: str) -> Channel | None:
    """The channel of this address; None where several tenants claim it, for one of them would read the other's."""
    if address == SOLE_CHANNEL:
        return served[0] if len(served) == 1 else None
    # As it is written first: a tenant's other spelling of it takes nothing from another.
    found = [channel for channel in served if channel.address == address]
    for channel in () if found else served:
        own = addresses.phone(channel.address)
        if own is not None and own.canonical == address:
            found.append(channel)
    return found[0] if len({channel.tenant_id for channel in found}) == 1 else None


# -- in which order it was said ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Incoming:
    """A customer's or an agent's message, with where and when it came in."""

    webhook: WebhookReceived
    channel: Channel
    message: InboundMessage | AgentMessage


def in_order(webhooks: Sequence[ParsedWebhook]) -> list[Incoming]:
    """All messages of a batch in the order in which they were written.

    That is the order in which their webhooks arrived; within one webhook the provider's times, where it gives all of
    them, and for equal times the order in the webhook.
    """
    return [
        Incoming(parsed.webhook, channel, message)
        for parsed in sorted(webhooks, key=lambda parsed: parsed.webhook.received_at)
        for channel, message in _messages_in_order(parsed)
    ]


def _messages_in_order(parsed: ParsedWebhook) -> list[tuple[Channel, InboundMessage | AgentMessage]]:
    found: list[tuple[Channel, InboundMessage | AgentMessage]] = [*parsed.messages, *parsed.agent_messages]
    if len(found) < 2:
        return found
    found.sort(key=lambda one: one[1].place)
    times = [message.timestamp for _, message in found if message.timestamp is not None]
    if len(times) == len(found):
        found = [one for _, one in sorted(zip(times, found, strict=True), key=lambda pair: pair[0])]
    return found


# -- what else it tells ------------------------------------------------------------------------------------------------

# Of a notice; the rest is somebody's text or address.
NOTICE_FACTS = (
    "change", "EventType", "CallStatus", "event", "decision", "code", "current_limit", "message_template_name",
    "message_template_language",
)  # fmt: skip


def notices(webhooks: Sequence[ParsedWebhook]) -> list[Event]:
    """What else the webhooks told us, announced to whom it concerns; the webhook itself is in `inbound_log`."""
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


def provider_consents(webhooks: Sequence[ParsedWebhook]) -> list[consent_actions.ProviderConsent]:
    """What of the notices is a consent, and what authors say who have the answer go to somebody else."""
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
    """Tenants and channel that a notice is about: the channel's it names, else of the account it names, else of the
    endpoint. Nobody where it may be any of several tenants': none of them may learn of another's account."""
    if notice.channel_address:
        channel = _addressed(parsed.served, notice.channel_address)
        return [(channel.tenant_id, channel.id)] if channel is not None else []
    if parsed.webhook.tenant_id is not None:
        return [(parsed.webhook.tenant_id, None)]
    account = notice.data.get("waba_id")
    owners = {c.tenant_id for c in parsed.served if account is not None and c.business_id == account}
    every = {c.tenant_id for c in parsed.served}
    return [(tenant_id, None) for tenant_id in sorted(owners or (every if len(every) == 1 else ()))]


def _facts(data: Mapping[str, object]) -> dict[str, str]:
    return {name: str(data[name])[:100] for name in NOTICE_FACTS if data.get(name)}
