"""contacts.*: the people that a tenant talks to."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field, TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import ListInput, Name, Output, Page, Part, PhoneNumber, TenantInput
from ingress.api.problems import CONFLICT, VERSION_MISMATCH, FieldError, Problem, not_found, pointer
from shared.actions import contacts
from shared.actions.contacts import Changes, ErasurePending, NumberTaken
from shared.store import contact_records as records
from shared.store.contact_records import ContactRecord
from shared.store.newest_first import Position

READ: Final = "contacts:read"
WRITE: Final = "contacts:write"
_POSITION: Final = TypeAdapter(Position)

_ID: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4d"
EXAMPLE: Final[dict[str, Any]] = {  # a contact, as answers have it
    "id": _ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "phoneNumber": "+14155238886",
    "name": "Ana",
    "isActive": True,
    "createdAt": "2026-11-28T16:00:00Z",
    "updatedAt": "2026-11-28T16:00:00Z",
    "deletedAt": None,
}


class Contact(Part):
    """A person. Whoever writes to a channel becomes a contact by themselves."""

    id: UUID
    tenant_id: UUID
    phone_number: str | None = Field(description="In E.164; null for a person who is known by something else.")
    name: str | None
    is_active: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None

    @classmethod
    def of(cls, record: ContactRecord) -> "Contact":
        """The contact of a row."""
        return cls(
            id=record.id,
            tenant_id=record.tenant_id,
            phone_number=record.phone_number,
            name=record.name,
            is_active=record.is_active,
            created_at=record.created_at,
            updated_at=record.updated_at,
            deleted_at=record.deleted_at,
        )


class ContactAnswer(Output):
    contact: Contact


class ContactPage(Page):
    contacts: list[Contact]


class ListContacts(ListInput):
    is_active: bool | None = Field(default=None, description="Only those that are, or are not, active.")
    deleted: bool = Field(default=False, description="List deleted contacts instead of live ones.")


class ContactId(TenantInput):
    id: UUID


class CreateContact(TenantInput):
    phone_number: PhoneNumber
    name: Name | None = None
    is_active: bool = True


class UpdateContact(ContactId):
    """What is left out stays as it is."""

    phone_number: PhoneNumber | None = Field(default=None, description="The former number stays the contact's, too.")
    name: Name | None = Field(default=None, description="null removes the name.")
    is_active: bool | None = None


@query("contacts.list", scope=READ, examples=[Example({"limit": 1}, {"contacts": [EXAMPLE], "nextCursor": None})])
async def list_(call: Call, given: ListContacts) -> ContactPage:
    """List contacts, newest first.

    With `isActive` a page may hold less than `limit`, or nothing, and yet have a `nextCursor`: go on with it.
    """
    rows, read_up_to = await records.page(
        call.connection,
        call.tenant_id,
        is_active=given.is_active,
        deleted=given.deleted,
        after=cursors.position(call, given, _POSITION),
        limit=given.limit + 1,
    )
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id), read_up_to)
    return ContactPage(contacts=[Contact.of(row) for row in shown], next_cursor=next_cursor)


@query("contacts.get", scope=READ, examples=[Example({"id": _ID}, {"contact": EXAMPLE})])
async def get(call: Call, given: ContactId) -> ContactAnswer:
    """Get a contact. A deleted one is not found: contacts.list shows it with `deleted`."""
    return ContactAnswer(contact=Contact.of(await live(call, given.id)))


@mutation(
    "contacts.create",
    scope=WRITE,
    examples=[Example({"phoneNumber": "+1 415 523 8886", "name": "Ana"}, {"contact": EXAMPLE})],
)
async def create(call: Call, given: CreateContact) -> ContactAnswer:
    """Create a contact.

    A number that only a deleted contact has comes with that contact's conversations and opt-outs.
    """
    try:
        made = await contacts.create(
            call.connection, call.tenant_id, Changes(given.phone_number, given.name, given.is_active)
        )
    except NumberTaken as taken:
        raise _taken(taken) from None
    return ContactAnswer(contact=Contact.of(made))


@mutation(
    "contacts.update",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID, "name": "Ana"}, {"contact": EXAMPLE})],
)
async def update(call: Call, given: UpdateContact) -> ContactAnswer:
    """Change a contact. With If-Match only the version that you have seen is changed."""
    before = await live(call, given.id, lock=True)
    call.expect_version(before.updated_at)
    changes = Changes(
        before.phone_number if given.phone_number is None else given.phone_number,
        given.name if "name" in given.model_fields_set else before.name,
        before.is_active if given.is_active is None else given.is_active,
    )
    try:
        after = await contacts.update(call.connection, before, changes)
    except NumberTaken as taken:
        raise _taken(taken) from None
    return ContactAnswer(contact=Contact.of(after))


@mutation(
    "contacts.delete",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID}, {"contact": {**EXAMPLE, "deletedAt": "2026-11-28T17:00:00Z"}})],
)
async def delete(call: Call, given: ContactId) -> ContactAnswer:
    """Delete a contact. Their messages stay, and contacts.restore undoes it; contacts.erase is for ever."""
    if call.if_match is not None:
        call.expect_version((await live(call, given.id, lock=True)).updated_at)
    deleted = await contacts.delete(call.connection, call.tenant_id, given.id)
    if deleted is None:
        raise not_found("contact")
    return ContactAnswer(contact=Contact.of(deleted))


@mutation("contacts.restore", scope=WRITE, examples=[Example({"id": _ID}, {"contact": EXAMPLE})])
async def restore(call: Call, given: ContactId) -> ContactAnswer:
    """Restore a deleted contact."""
    try:
        restored = await contacts.restore(call.connection, call.tenant_id, given.id)
    except NumberTaken as taken:
        raise _taken(taken) from None
    except ErasurePending:
        error = FieldError(pointer("id"), "contacts.erase was called for this contact.", "Create another contact.")
        raise Problem(CONFLICT, "The contact is about to be erased, for ever.", errors=[error]) from None
    if restored is None:
        raise not_found("deleted contact")
    return ContactAnswer(contact=Contact.of(restored))


async def live(call: Call, contact_id: UUID, *, lock: bool = False) -> ContactRecord:
    """The contact; the problem of one that is not there, or deleted."""
    found = await records.get(call.connection, call.tenant_id, contact_id, lock=lock)
    if found is None or found.deleted_at is not None:
        raise not_found("contact")
    return found


def _taken(taken: NumberTaken) -> Problem:
    whose = f"Contact {taken.contact_id}" if taken.contact_id else "Another contact"
    remedy = "Change that contact instead: contacts.update."
    error = FieldError(pointer("phoneNumber"), f"{whose} has this number, or had it.", remedy)
    return Problem(CONFLICT, error.detail, errors=[error])
