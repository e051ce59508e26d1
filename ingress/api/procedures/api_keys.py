"""apiKeys.*: the keys that open this API."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter

from ingress.api import cursors, declaration
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import ListInput, Moment, Name, Output, Page, Part, TenantInput
from ingress.api.problems import CONFLICT, FORBIDDEN, FieldError, Problem, invalid, not_found, pointer
from shared.actions import api_keys as actions
from shared.actions.api_keys import MOST_KEYS, TooManyKeys
from shared.domain import api_keys
from shared.store import api_keys as store

READ: Final = "apiKeys:read"
WRITE: Final = "apiKeys:write"
_POSITION: Final = TypeAdapter(UUID)

Scope = Annotated[str, StringConstraints(min_length=1, max_length=api_keys.LONGEST_SCOPE)]

_ID: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4e"
_SHOP: Final[dict[str, Any]] = {
    "id": _ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "name": "Web shop",
    "prefix": "plm_0a1b2c3d",
    "scopes": ["contacts:read"],
    "lastUsedAt": None,
    "expiresAt": None,
    "createdAt": "2026-11-28T16:00:00Z",
}


class ApiKey(Part):
    """A key, without what opens the API."""

    id: UUID
    tenant_id: UUID
    name: str
    prefix: str = Field(description="The beginning of the key, by which you recognise it.")
    scopes: list[str]
    last_used_at: datetime | None = Field(description="To the minute.")
    expires_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, stored: store.ApiKey) -> "ApiKey":
        """The key of a row."""
        assert stored.tenant_id is not None, "an operator's key is of no tenant"
        return cls(
            id=stored.id,
            tenant_id=stored.tenant_id,
            name=stored.name,
            prefix=stored.prefix,
            scopes=list(stored.scopes),
            last_used_at=stored.last_used_at,
            expires_at=stored.expires_at,
            created_at=stored.created_at,
        )


class ApiKeyAnswer(Output):
    api_key: ApiKey


class NewApiKey(ApiKeyAnswer):
    key: str | None = Field(
        description="The key itself. It is shown once, and stored nowhere: null where this answers a request that "
        "came again with its Idempotency-Key."
    )


class ApiKeyPage(Page):
    api_keys: list[ApiKey]


class ApiKeyId(TenantInput):
    id: UUID


class CreateApiKey(TenantInput):
    name: Name
    scopes: list[Scope] = Field(min_length=1, max_length=50, description="Such as contacts:read; * is every scope.")
    expires_at: Moment | None = Field(
        default=None, description="Not later than your own key's. Left out: as your own key's, such as null for never."
    )


@query("apiKeys.list", scope=READ, examples=[Example({}, {"apiKeys": [_SHOP], "nextCursor": None})])
async def list_(call: Call, given: ListInput) -> ApiKeyPage:
    """List the keys that are not revoked, newest first."""
    rows = await store.page(call.connection, call.tenant_id, cursors.position(call, given, _POSITION), given.limit + 1)
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: row.id)
    return ApiKeyPage(api_keys=[ApiKey.of(row) for row in shown], next_cursor=next_cursor)


@query("apiKeys.get", scope=READ, examples=[Example({"id": _ID}, {"apiKey": _SHOP})])
async def get(call: Call, given: ApiKeyId) -> ApiKeyAnswer:
    """Get a key that is not revoked."""
    found = await store.get(call.connection, call.tenant_id, given.id)
    if found is None:
        raise not_found("key")
    return ApiKeyAnswer(api_key=ApiKey.of(found))


@mutation(
    "apiKeys.create",
    scope=WRITE,
    shown_once=["key"],
    examples=[
        Example(
            {"name": "Web shop", "scopes": ["contacts:read"]},
            {"apiKey": _SHOP, "key": "plm_0a1b2c3d4e5f6g7h8i9j0k1l2m3n4p…"},
        )
    ],
)
async def create(call: Call, given: CreateApiKey) -> NewApiKey:
    """Create a key. It is shown once, has no scope that your own key lacks, and does not outlive that one."""
    _check(call, given)
    expires_at = given.expires_at or call.caller.expires_at
    try:
        made = await actions.create(call.connection, call.tenant_id, given.name, given.scopes, expires_at)
    except TooManyKeys:
        raise Problem(CONFLICT, f"There are {MOST_KEYS} keys. Revoke one first: apiKeys.revoke.") from None
    return NewApiKey(api_key=ApiKey.of(made.stored), key=made.key)


@mutation("apiKeys.revoke", scope=WRITE, examples=[Example({"id": _ID}, {"apiKey": _SHOP})])
async def revoke(call: Call, given: ApiKeyId) -> ApiKeyAnswer:
    """Revoke a key for good. Every process refuses it within five seconds."""
    revoked = await actions.revoke(call.connection, call.tenant_id, given.id)
    if revoked is None:
        raise not_found("key")
    return ApiKeyAnswer(api_key=ApiKey.of(revoked))


def _check(call: Call, given: CreateApiKey) -> None:
    known = declaration.scopes(operator=False)
    for place, scope in enumerate(given.scopes):
        if scope not in (api_keys.ALL, *known):
            raise invalid(("scopes", place), "There is no such scope.", f"Give some of: *, {', '.join(known)}.")
    if exceeding := api_keys.exceeding(call.caller.scopes, given.scopes):
        error = FieldError(pointer("scopes"), f"Your own key lacks {', '.join(exceeding)}.", "Leave those out.")
        raise Problem(FORBIDDEN, "A key has no more scopes than the key that creates it.", errors=[error])
    if given.expires_at is not None and given.expires_at <= datetime.now(UTC):
        raise invalid("expiresAt", "It is in the past.", "Give a time to come, or leave it out.")
    ends = call.caller.expires_at
    if ends is not None and given.expires_at is not None and given.expires_at > ends:
        error = FieldError(pointer("expiresAt"), f"Your own key expires at {ends.isoformat()}.", "Give no later time.")
        raise Problem(FORBIDDEN, "A key does not outlive the key that creates it.", errors=[error])
