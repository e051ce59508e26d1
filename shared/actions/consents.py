"""Records opt-ins and opt-outs with their event, once each: by customers' messages, providers' webhooks, refusals, and
what a contact asks the tenant or an operator for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from shared.database import Connection
from shared.domain import consents
from shared.domain.channels import Channel
from shared.domain.consents import Change
from shared.domain.model import ChannelKind, Consent, ConsentScope, ConsentState, InboundMessage
from shared.store import consents as ledger
from shared.store import contacts
from shared.store.consents import Entry
from shared.store.events import Event, record


class OtherWish(Exception):
    """The cause of a wish has entered another one before."""


async def write(connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
    """Add entries, and record an event for each new one; returns those. Runs no statement where there are none.

    Events may come in another order than the entries took effect; their `at` tells.
    """
    if not entries:
        return []
    new = await ledger.add(connection, entries)
    await record(connection, *(_event(entry) for entry in new))
    return new


@dataclass(frozen=True, slots=True)
class Wish:
    """What a contact has asked the tenant or an operator for, as of now. `evidence` says how: codes, ids, a reason.

    `cause` names the request, which is entered once; None: it is entered each time.
    """

    tenant_id: UUID
    contact_id: UUID
    channel_kind: ChannelKind
    state: ConsentState
    marketing: bool  # of bulk messages and marketing templates alone
    evidence: Mapping[str, object]
    cause: str | None = None


async def enter(connection: Connection, wish: Wish) -> None:
    """Enter a wish into the ledger. An opt-in to everything also ends a block. Raises OtherWish."""
    scopes: Sequence[ConsentScope] = ("marketing",) if wish.marketing else ("all",)
    if wish.state == "opted_in" and not wish.marketing:
        scopes = ("all", "blocked")
    entries = [
        Entry(
            tenant_id=wish.tenant_id,
            contact_id=wish.contact_id,
            channel_kind=wish.channel_kind,
            state=wish.state,
            source="api",
            at=datetime.now(UTC),
            scope=scope,
            dedupe_key=None if wish.cause is None else f"{wish.cause}:{scope}",
            evidence=wish.evidence,
        )
        for scope in scopes
    ]
    new = await write(connection, entries)
    # An entry of the same cause must be this wish. Else a key that is used again would lose an opt-out silently.
    for entry in entries:
        if entry not in new and not await ledger.has_same(connection, entry):
            raise OtherWish


def _event(entry: Entry) -> Event:
    return Event(
        f"consent.{entry.state}",
        entry.tenant_id,
        message_id=entry.message_id,
        contact_id=entry.contact_id,
        detail={
            "channel_kind": entry.channel_kind,
            "scope": entry.scope,
            "source": entry.source,
            "at": entry.at.isoformat(),
        },
    )


def message_consent(
    channel: Channel,
    message: InboundMessage,
    change: Change,
    contact_id: UUID,
    message_id: UUID,
    received_at: datetime,
) -> Entry:
    """The entry for an opt-in or opt-out that a customer wrote, in our message `message_id`."""
    # A mail's date is by its sender's clock, which may be wrong by years; the other times are the network's.
    sent_at = None if message.channel_kind == "email" else message.timestamp
    return Entry(
        tenant_id=channel.tenant_id,
        contact_id=contact_id,
        channel_kind=channel.kind,
        state=change.state,
        source="message",
        at=min(sent_at or received_at, received_at),
        scope=change.scope,
        dedupe_key=f"said:{message_id}",
        message_id=message_id,
        evidence={"provider": channel.provider} if message.consent is not None else {},
    )


@dataclass(frozen=True, slots=True)
class ProviderConsent:
    """A consent that a provider's webhook reports, for a tenant that it concerns."""

    tenant_id: UUID
    provider: str
    consent: Consent
    inbound_id: str
    received_at: datetime


async def record_provider_consents(connection: Connection, given: Sequence[ProviderConsent]) -> None:
    """Record consents that providers' webhooks report. An unknown address becomes a contact, so that its opt-out
    holds."""
    if not given:
        return
    people = [contacts.Person(one.tenant_id, (one.consent.address,), None) for one in given]
    contact_ids, made = await contacts.find_or_make(connection, people)
    new = {contact_id: one.tenant_id for contact_id, one in zip(contact_ids, given, strict=True) if contact_id in made}
    await record(connection, *(Event("contact.created", tenant, contact_id=who) for who, tenant in new.items()))
    await write(connection, [_provider_entry(one, who) for one, who in zip(given, contact_ids, strict=True)])


def _provider_entry(given: ProviderConsent, contact_id: UUID) -> Entry:
    consent = given.consent
    moment = consent.timestamp.isoformat() if consent.timestamp is not None else given.inbound_id
    return Entry(
        tenant_id=given.tenant_id,
        contact_id=contact_id,
        channel_kind=consent.channel_kind,
        state=consent.state,
        source="provider",
        at=min(consent.timestamp or given.received_at, given.received_at),
        scope=consent.scope,
        # By its content and not by the webhook, which may come again with other content.
        dedupe_key=f"told:{contact_id}:{consent.channel_kind}:{consent.scope}:{consent.state}:{moment}",
        evidence={"provider": given.provider, "inbound_id": given.inbound_id},
    )


@dataclass(frozen=True, slots=True)
class OptOutRefusal:
    """A message of ours that the provider did not send because the customer has opted out."""

    tenant_id: UUID
    conversation_id: UUID
    message_id: UUID
    provider: str
    code: str
    at: datetime  # of the call: a consent that the customer gave since is newer
    inbound_id: str | None = None  # of the receipt's webhook; None where the call itself was refused


async def record_refusals(connection: Connection, refusals: Sequence[OptOutRefusal]) -> None:
    """Record the opt-outs that refusals show, in the answer to the call or by receipt, whichever comes first."""
    if not refusals:
        return
    contact_of = await ledger.contacts_of_conversations(
        connection, [(one.tenant_id, one.conversation_id) for one in refusals]
    )
    await write(
        connection,
        [
            Entry(
                tenant_id=one.tenant_id,
                contact_id=contact_of[one.conversation_id][0],
                channel_kind=contact_of[one.conversation_id][1],
                state="opted_out",
                source="provider",
                at=one.at,
                scope=consents.scope_of_refusal(one.code),
                dedupe_key=_key_of(one),
                evidence=_evidence(one),
            )
            for one in refusals
            if one.conversation_id in contact_of
        ],
    )


def _key_of(one: OptOutRefusal) -> str:
    """One key a message, for a provider refuses it once; one a webhook, for a recipient may opt out again later."""
    occasion = f":{one.code}:{one.inbound_id}" if one.code in consents.BY_RECIPIENT else ""
    return f"refused:{one.message_id}{occasion}"


def _evidence(one: OptOutRefusal) -> dict[str, object]:
    facts = {
        "provider": one.provider,
        "error_code": one.code,
        "refused_message": str(one.message_id),
        "inbound_id": one.inbound_id,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}
