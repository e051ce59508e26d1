"""contacts.addresses, contacts.consents: by what a contact is known, and what they have opted in to and out of."""

from datetime import datetime
from typing import Final

from pydantic import Field

from ingress.api.call import Call
from ingress.api.declaration import Example, query
from ingress.api.models import MOST_ROWS, Output, Part
from ingress.api.procedures.consents import STOP, ConsentEntry
from ingress.api.procedures.contacts import EXAMPLE, READ, ContactId, live
from shared.store import consent_records, contact_search
from shared.store.consent_records import Wanted
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


class ContactConsents(Output):
    consents: list[ConsentEntry]


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


@query("contacts.consents", scope=READ, examples=[Example({"id": _ID}, {"consents": [STOP]})])
async def consents_(call: Call, given: ContactId) -> ContactConsents:
    """List what a contact has opted in to and out of: the last 200 entries of the ledger, the newest first."""
    await live(call, given.id)
    rows, _ = await consent_records.page(call.connection, call.tenant_id, Wanted(given.id), None, MOST_ROWS)
    return ContactConsents(consents=[ConsentEntry.of(row) for row in rows])
