"""Finds the channel of each message and receipt of a webhook: by the address it came to or names. No I/O."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

from shared.domain import addresses
from shared.domain.channels import Channel
from shared.domain.model import InboundMessage, Receipt
from shared.providers.base import SOLE_CHANNEL
from workers.persist.parsing import ParsedWebhook


def assign_channels(webhooks: Sequence[ParsedWebhook], channels: Iterable[Channel]) -> None:
    """Give each message and receipt its channel, or note an error with its webhook."""
    by_endpoint: defaultdict[UUID, list[Channel]] = defaultdict(list)
    for channel in channels:
        if channel.endpoint_id is not None:
            by_endpoint[channel.endpoint_id].append(channel)
    for parsed in webhooks:
        webhook = parsed.webhook
        # An endpoint without a tenant serves several; any other one serves only its own tenant's channels.
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
            through = channel_at(of_kind, written.channel_address)
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
    """The channel that a message came to: by its address, else by the messaging service that it names."""
    service = message.extra.get("MessagingServiceSid")
    of_kind = [channel for channel in served if channel.kind == message.channel_kind]
    found = channel_at(of_kind, message.channel_address) or next((c for c in of_kind if c.address == service), None)
    return found or (_mailbox(of_kind, message) if message.channel_kind == "email" else None)


def _mailbox(of_kind: Sequence[Channel], message: InboundMessage) -> Channel | None:
    """The channel of a mail: by any of its recipients, else the endpoint's only channel, as for a forwarded mail."""
    named = message.extra.get("recipients")
    every = [str(one) for one in named] if isinstance(named, list) else []
    plain = [_without_tag(one) for one in every]  # RFC 5233: `hola+order17@` is `hola@`
    found = [c for c in of_kind if c.address.lower() in every] or [c for c in of_kind if c.address.lower() in plain]
    return found[0] if found else of_kind[0] if len(of_kind) == 1 else None


def _without_tag(address: str) -> str:
    user, at, domain = address.rpartition("@")
    return f"{user.partition('+')[0]}{at}{domain}"


def channel_of_receipt(served: Sequence[Channel], receipt: Receipt) -> Channel | None:
    """The channel that a receipt names, or that has the address its message was sent from. Else the first of its kind:
    the channel matters only to a receipt that comes before its message."""
    if receipt.channel_address:
        return channel_at(served, receipt.channel_address)
    of_kind = [c for c in served if receipt.channel_kind in (None, c.kind)] or list(served)
    return next((c for c in of_kind if c.address == receipt.sent_from), of_kind[0] if of_kind else None)


def channel_at(served: Sequence[Channel], address: str) -> Channel | None:
    """The channel with this address; None where channels of several tenants have it: one would read another's
    messages."""
    if address == SOLE_CHANNEL:
        return served[0] if len(served) == 1 else None
    # The exact spelling goes first: with another spelling of it a tenant takes no messages from its owner.
    found = [channel for channel in served if channel.address == address]
    for channel in () if found else served:
        own = addresses.phone(channel.address)
        if own is not None and own.canonical == address:
            found.append(channel)
    return found[0] if len({channel.tenant_id for channel in found}) == 1 else None
