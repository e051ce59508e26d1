"""contacts.erase: removes a person from every table, for ever."""

from datetime import datetime
from typing import Final
from uuid import UUID

from ingress.api.call import Call
from ingress.api.declaration import Example, mutation
from ingress.api.models import Output
from ingress.api.problems import CONFLICT, FieldError, Problem, not_found, pointer
from ingress.api.procedures.contacts import EXAMPLE, ContactId
from shared.actions import erasure
from shared.domain.person_pattern import NothingToSearch
from shared.store import contact_records

ERASE: Final = "contacts:erase"


class ErasureRequested(Output):
    contact_id: UUID
    requested_at: datetime


@mutation(
    "contacts.erase",
    scope=ERASE,
    examples=[Example({"id": EXAMPLE["id"]}, {"contactId": EXAMPLE["id"], "requestedAt": "2026-11-28T16:00:00Z"})],
)
async def erase(call: Call, given: ContactId) -> ErasureRequested:
    """Erase a contact, deleted or not, for ever: messages, files, raw webhooks, campaigns, consents, deliveries.

    The contact is hidden at once. The clock then searches everything that the tenant has, which takes seconds to
    minutes; the event contact_erased says that it is done. Opt-outs go too: who writes again is a new contact. Backups,
    dead letters and what the provider stores are not searched.
    """
    contact = await contact_records.get(call.connection, call.tenant_id, given.id, lock=True)
    if contact is None:
        raise not_found("contact")
    try:
        requested_at = await erasure.request(call.connection, contact)
    except NothingToSearch:
        what = "This contact has no address that can be searched for, so its traces could not be proven gone."
        raise Problem(CONFLICT, what, errors=[FieldError(pointer("id"), what, "Ask the operator.")]) from None
    return ErasureRequested(contact_id=contact.id, requested_at=requested_at)
