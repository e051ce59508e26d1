"""contacts.addresses, contacts.consents: by what a contact is known, and what they have opted in to and out of."""

from datetime import datetime
from typing import Any, Final

from pydantic import Field

from ingress.api.call import Call
from ingress.api.declaration import Example, query
from ingress.api.models import MOST_ROWS, Output, Part, as_object
from ingress.api.procedures.contacts import EXAMPLE, READ, ContactId, live
from shared.store import consents, contact_search
from shared.store.consents import LedgerEntry
from shared.store.contact_search import StoredAddress

_ID: Final = EXAMPLE["id"]


class ContactAddress(Part):
    kind: str = Field(description="phone, email, user_id (WhatsApp's) or kommo_chat.")
    address: str = Field(description="As it was given.")
    canonical: str = Field(description="The form by which the same address is recognised however it is written.")
    created_at: datetime

    @classmethod
    def of(cls, stored: StoredAddress) -> "ContactAddress":
        """The address of a row."""
        return cls(kind=stored.kind, address=stored.given, canonical=stored.canonical, created_at=stored.created_at)


class ContactAddresses(Output):
    addresses: list[ContactAddress]


class ContactConsent(Part):
    channel_kind: str
    scope: str = Field(description="all, marketing, or blocked: the contact blocks the sender.")
    state: str = Field(description="opted_in or opted_out.")
    source: str = Field(description="message, provider, api or import.")
    effective_at: datetime
    evidence: dict[str, Any]
    holds: bool = Field(description="It is the newest of its kind of channel and scope, and so the one that counts.")

    @classmethod
    def of(cls, entry: LedgerEntry) -> "ContactConsent":
        """The consent of a ledger's entry."""
        return cls(
            channel_kind=entry.channel_kind,
            scope=entry.scope,
            state=entry.state,
            source=entry.source,
            effective_at=entry.effective_at,
            evidence=as_object(entry.evidence),
            holds=entry.holds,
        )


class ContactConsents(Output):
    consents: list[ContactConsent]


@query(
    "contacts.addresses",
    scope=READ,
    examples=[
        Example(
            {"id": _ID},
            {
                "addresses": [
                    {
                        "kind": "phone",
                        "address": "+14155238886",
                        "canonical": "+14155238886",
                        "createdAt": "2026-11-28T16:00:00Z",
                    }
                ]
            },
        )
    ],
)
async def addresses(call: Call, given: ContactId) -> ContactAddresses:
    """List the addresses of a contact, oldest first. One contact may have many."""
    await live(call, given.id)
    rows = await contact_search.addresses(call.connection, call.tenant_id, given.id)
    return ContactAddresses(addresses=[ContactAddress.of(row) for row in rows])


@query(
    "contacts.consents",
    scope=READ,
    examples=[
        Example(
            {"id": _ID},
            {
                "consents": [
                    {
                        "channelKind": "whatsapp",
                        "scope": "all",
                        "state": "opted_out",
                        "source": "message",
                        "effectiveAt": "2026-11-28T16:00:00Z",
                        "evidence": {},
                        "holds": True,
                    }
                ]
            },
        )
    ],
)
async def consents_(call: Call, given: ContactId) -> ContactConsents:
    """List what a contact has opted in to and out of, newest first: the newest 200 entries of the ledger."""
    await live(call, given.id)
    entries = await consents.ledger(call.connection, call.tenant_id, given.id, MOST_ROWS)
    return ContactConsents(consents=[ContactConsent.of(entry) for entry in entries])
