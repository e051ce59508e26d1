"""Parses webhooks by their provider, once each, and puts their messages in order. No I/O."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.domain.channels import Channel
from shared.domain.consents import consent_change
from shared.domain.model import AgentMessage, InboundMessage, Receipt
from shared.providers import provider
from shared.providers.base import Parsed, RawWebhook
from shared.queue.jobs import WebhookReceived
from shared.store import webhook_log
from shared.store.webhook_log import Logged
from workers.persist.incoming import FromAgent, FromCustomer, Incoming

PARSED_AT_ONCE = 20  # webhooks parsed before other tasks run, about half a millisecond
_NULS = ((b"%00", b"%EF%BF%BD"), (b"\\u0000", b"\\ufffd"), (b"\0", "\ufffd".encode()))


@dataclass(slots=True)
class ParsedWebhook:
    """A webhook with what its provider's parser found, and the parts that belong to a channel of ours."""

    webhook: WebhookReceived
    content: Parsed
    served: Sequence[Channel] = ()  # the channels of its endpoint
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
    """Each webhook of a batch once, in their order. Of two copies the replay is taken, else the earlier one: the
    24-hour window opens by its time."""
    chosen: dict[str, WebhookReceived] = {}
    for webhook in webhooks:
        known = chosen.get(webhook.inbound_id, webhook)
        better = (webhook.replayed, -webhook.received_at.timestamp()) > (known.replayed, -known.received_at.timestamp())
        chosen[webhook.inbound_id] = webhook if better else known
    return list(chosen.values())


async def parse_all(webhooks: Sequence[WebhookReceived]) -> dict[str, ParsedWebhook]:
    """Parse webhooks; returns them by id. Other tasks run in between: another batch may be holding locks."""
    found: dict[str, ParsedWebhook] = {}
    for number, webhook in enumerate(webhooks):
        if number % PARSED_AT_ONCE == 0:
            await asyncio.sleep(0)
        found[webhook.inbound_id] = ParsedWebhook(webhook, parse(webhook))
    return found


def parse(webhook: WebhookReceived) -> Parsed:
    """Parse a webhook with its provider's code. Its content never makes this raise."""
    body, its = webhook.raw_body, provider(webhook.provider)
    return its.parse(
        RawWebhook(
            webhook.method,
            without_nul(webhook.url.encode()).decode(),
            webhook.content_type,
            webhook.headers,
            body if its.parses_nul else without_nul(body),
        )
    )


def without_nul(raw: bytes) -> bytes:
    """Replace U+0000 by U+FFFD, as written in a form, in JSON or plainly.

    PostgreSQL refuses U+0000 in text and jsonb, and one would fail the whole batch. The raw webhook is stored as it is.
    """
    for written, instead in _NULS:
        if written in raw:
            raw = raw.replace(written, instead)
    return raw


def in_order(webhooks: Sequence[ParsedWebhook]) -> list[Incoming]:
    """All messages of a batch in the order in which they were written.

    That is the order in which their webhooks arrived; within one webhook the provider's times, where it gives all of
    them, and for equal times the order in the webhook.
    """
    found: list[Incoming] = []
    for parsed in sorted(webhooks, key=lambda parsed: parsed.webhook.received_at):
        for channel, message in _messages_in_order(parsed):
            if isinstance(message, AgentMessage):
                found.append(FromAgent(parsed.webhook, channel, message, len(found)))
            else:
                consent = consent_change(message, channel.words)
                found.append(FromCustomer(parsed.webhook, channel, message, len(found), consent))
    return found


def _messages_in_order(parsed: ParsedWebhook) -> list[tuple[Channel, InboundMessage | AgentMessage]]:
    found: list[tuple[Channel, InboundMessage | AgentMessage]] = [*parsed.messages, *parsed.agent_messages]
    if len(found) < 2:
        return found
    found.sort(key=lambda one: one[1].place)
    times = [message.timestamp for _, message in found if message.timestamp is not None]
    if len(times) == len(found):
        found = [one for _, one in sorted(zip(times, found, strict=True), key=lambda pair: pair[0])]
    return found
