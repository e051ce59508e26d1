"""groups.*: a tenant's lists of contacts."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import ListInput, Name, Output, Page, Part, TenantInput
from ingress.api.problems import VERSION_MISMATCH, not_found
from ingress.api.procedures.contacts import EXAMPLE as ANA
from ingress.api.procedures.contacts import Contact
from shared.actions import groups
from shared.store import contact_records
from shared.store import groups as store
from shared.store.groups import GroupValues
from shared.store.newest_first import Position

READ: Final = "groups:read"
WRITE: Final = "groups:write"
MOST_IDS: Final = 1000  # of one call
_POSITION: Final = TypeAdapter(Position)
_CONTACT: Final = TypeAdapter(UUID)

Description = Annotated[str, StringConstraints(min_length=1, max_length=2000)]

_ID: Final = "019ac2f0-8a10-7b21-8f3e-5d1c2b3a4f5e"
_LIST: Final[dict[str, Any]] = {
    "id": _ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "name": "Marketing List",
    "description": "Q1 Marketing Campaign",
    "isActive": True,
    "createdAt": "2026-11-28T16:00:00Z",
    "updatedAt": "2026-11-28T16:00:00Z",
    "deletedAt": None,
}
_ONE: Final[dict[str, Any]] = {"groupId": _ID, "contactIds": [ANA["id"]]}


class Group(Part):
    """A list of contacts. A contact may be in several."""

    id: UUID
    tenant_id: UUID
    name: str
    description: str | None
    is_active: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None

    @classmethod
    def of(cls, stored: store.Group) -> "Group":
        """The group of a row."""
        return cls(
            id=stored.id,
            tenant_id=stored.tenant_id,
            name=stored.name,
            description=stored.description,
            is_active=stored.is_active,
            created_at=stored.created_at,
            updated_at=stored.updated_at,
            deleted_at=stored.deleted_at,
        )


class GroupAnswer(Output):
    group: Group


class GroupPage(Page):
    groups: list[Group]


class GroupContactPage(Page):
    contacts: list[Contact]


class ContactsAdded(Output):
    added: int = Field(description="How many of them were not in the group before.")


class ContactsRemoved(Output):
    removed: int = Field(description="How many of them were in the group.")


class ListGroups(ListInput):
    is_active: bool | None = Field(default=None, description="Only those that are, or are not, active.")


class GroupId(TenantInput):
    id: UUID


class CreateGroup(TenantInput):
    name: Name
    description: Description | None = None
    is_active: bool = True


class UpdateGroup(GroupId):
    """What is left out stays as it is."""

    name: Name | None = None
    description: Description | None = Field(default=None, description="null removes it.")
    is_active: bool | None = None


class ListGroupContacts(ListInput):
    group_id: UUID


class GroupContacts(TenantInput):
    group_id: UUID
    contact_ids: list[UUID] = Field(min_length=1, max_length=MOST_IDS)


@query("groups.list", scope=READ, examples=[Example({"limit": 1}, {"groups": [_LIST], "nextCursor": None})])
async def list_(call: Call, given: ListGroups) -> GroupPage:
    """List groups, newest first."""
    rows = await store.page(
        call.connection,
        call.tenant_id,
        is_active=given.is_active,
        after=cursors.position(call, given, _POSITION),
        limit=given.limit + 1,
    )
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id))
    return GroupPage(groups=[Group.of(row) for row in shown], next_cursor=next_cursor)


@query("groups.get", scope=READ, examples=[Example({"id": _ID}, {"group": _LIST})])
async def get(call: Call, given: GroupId) -> GroupAnswer:
    """Get a group. groups.contacts lists who is in it."""
    return GroupAnswer(group=Group.of(await _live(call, given.id)))


@mutation(
    "groups.create",
    scope=WRITE,
    examples=[Example({"name": "Marketing List", "description": "Q1 Marketing Campaign"}, {"group": _LIST})],
)
async def create(call: Call, given: CreateGroup) -> GroupAnswer:
    """Create an empty group."""
    values = GroupValues(given.name, given.description, given.is_active)
    return GroupAnswer(group=Group.of(await groups.create(call.connection, call.tenant_id, values)))


@mutation(
    "groups.update",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID, "name": "Marketing List"}, {"group": _LIST})],
)
async def update(call: Call, given: UpdateGroup) -> GroupAnswer:
    """Change a group. With If-Match only the version that you have seen is changed."""
    before = await _live(call, given.id, lock=True)
    call.expect_version(before.updated_at)
    values = GroupValues(
        before.name if given.name is None else given.name,
        given.description if "description" in given.model_fields_set else before.description,
        before.is_active if given.is_active is None else given.is_active,
    )
    return GroupAnswer(group=Group.of(await groups.update(call.connection, before, values)))


@mutation(
    "groups.delete",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID}, {"group": {**_LIST, "deletedAt": "2026-11-28T17:00:00Z"}})],
)
async def delete(call: Call, given: GroupId) -> GroupAnswer:
    """Delete a group. The contacts in it stay."""
    if call.if_match is not None:
        call.expect_version((await _live(call, given.id, lock=True)).updated_at)
    deleted = await groups.delete(call.connection, call.tenant_id, given.id)
    if deleted is None:
        raise not_found("group")
    return GroupAnswer(group=Group.of(deleted))


@query(
    "groups.contacts",
    scope=READ,
    examples=[Example({"groupId": _ID, "limit": 1}, {"contacts": [ANA], "nextCursor": None})],
)
async def contacts(call: Call, given: ListGroupContacts) -> GroupContactPage:
    """List the contacts in a group. Deleted contacts are not shown; one that is restored is in it again."""
    await _live(call, given.group_id, "groupId")
    after = cursors.position(call, given, _CONTACT)
    rows = await store.contacts(call.connection, call.tenant_id, given.group_id, after, given.limit + 1)
    shown, next_cursor = cursors.page(call, given, rows, _CONTACT, lambda row: row.id)
    return GroupContactPage(contacts=[Contact.of(row) for row in shown], next_cursor=next_cursor)


@mutation(
    "groups.addContacts", scope=WRITE, examples=[Example({"groupId": _ID, "contactIds": [ANA["id"]]}, {"added": 1})]
)
async def add_contacts(call: Call, given: GroupContacts) -> ContactsAdded:
    """Add contacts to a group: all of them, or none where one is not there. One that is in it stays."""
    group = await _live(call, given.group_id, "groupId")
    await _check_contacts(call, given.contact_ids, live=True)
    return ContactsAdded(added=await groups.add_contacts(call.connection, group, given.contact_ids))


@mutation(
    "groups.removeContacts",
    scope=WRITE,
    examples=[Example({"groupId": _ID, "contactIds": [ANA["id"]]}, {"removed": 1})],
)
async def remove_contacts(call: Call, given: GroupContacts) -> ContactsRemoved:
    """Take contacts out of a group. One that is not in it changes nothing."""
    group = await _live(call, given.group_id, "groupId")
    await _check_contacts(call, given.contact_ids, live=False)
    return ContactsRemoved(removed=await groups.remove_contacts(call.connection, group, given.contact_ids))


async def _live(call: Call, group_id: UUID, field: str = "id", *, lock: bool = False) -> store.Group:
    found = await store.get(call.connection, call.tenant_id, group_id, lock=lock)
    if found is None or found.deleted_at is not None:
        raise not_found("group", field)
    return found


async def _check_contacts(call: Call, contact_ids: list[UUID], *, live: bool) -> None:
    """Raise the problem that names the first of these contacts that is not there, or with `live` is deleted."""
    known = await contact_records.known(call.connection, call.tenant_id, contact_ids)
    for place, contact_id in enumerate(contact_ids):
        if contact_id not in known or (live and not known[contact_id]):
            raise not_found("contact", "contactIds", place)
