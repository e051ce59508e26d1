"""tenants.*: the businesses that this installation serves. With an operator's key only."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import Input, Name, Output, Page, PageInput, Part
from ingress.api.problems import CONFLICT, NOT_FOUND, FieldError, Problem, not_found, pointer
from shared.actions import tenants
from shared.actions.tenants import NameTaken
from shared.store import tenants as store

READ: Final = "tenants:read"
WRITE: Final = "tenants:write"
_POSITION: Final = TypeAdapter(store.Position)

_SHOP: Final[dict[str, Any]] = {
    "id": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "name": "Tienda",
    "createdAt": "2026-11-28T16:00:00Z",
    "updatedAt": "2026-11-28T16:00:00Z",
}


class Tenant(Part):
    """A business with its own channels, contacts and conversations, which no other one sees."""

    id: UUID
    name: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, stored: store.Tenant) -> "Tenant":
        """The tenant of a row."""
        return cls(id=stored.id, name=stored.name, created_at=stored.created_at, updated_at=stored.updated_at)


class TenantAnswer(Output):
    tenant: Tenant


class TenantPage(Page):
    tenants: list[Tenant]


class TenantId(Input):
    id: UUID


class CreateTenant(Input):
    name: Name


@query("tenants.list", scope=READ, operator=True, examples=[Example({}, {"tenants": [_SHOP], "nextCursor": None})])
async def list_(call: Call, given: PageInput) -> TenantPage:
    """List the tenants, oldest first."""
    rows = await store.page(call.connection, cursors.position(call, given, _POSITION), given.limit + 1)
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id))
    return TenantPage(tenants=[Tenant.of(row) for row in shown], next_cursor=next_cursor)


@query(
    "tenants.get",
    scope=READ,
    operator=True,
    errors=[NOT_FOUND],
    examples=[Example({"id": _SHOP["id"]}, {"tenant": _SHOP})],
)
async def get(call: Call, given: TenantId) -> TenantAnswer:
    """Get a tenant."""
    found = await store.get(call.connection, given.id)
    if found is None:
        raise not_found("tenant")
    return TenantAnswer(tenant=Tenant.of(found))


@mutation("tenants.create", scope=WRITE, operator=True, examples=[Example({"name": "Tienda"}, {"tenant": _SHOP})])
async def create(call: Call, given: CreateTenant) -> TenantAnswer:
    """Create a tenant. With the same operator's key, apiKeys.create makes its first key: name it in `tenantId`."""
    try:
        return TenantAnswer(tenant=Tenant.of(await tenants.create(call.connection, given.name)))
    except NameTaken as taken:
        error = FieldError(pointer("name"), f"Tenant {taken.tenant_id} has this name.", "Choose another one.")
        raise Problem(CONFLICT, error.detail, errors=[error]) from None
