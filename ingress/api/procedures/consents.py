"""consents.*: the ledger of opt-ins and opt-outs, and to enter what a contact asks for."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import ListInput, Output, Page, Part, TenantInput, as_object
from ingress.api.problems import IDEMPOTENCY_MISMATCH, Problem, not_found
from shared.actions import consents
from shared.actions.consents import OtherWish, Wish
from shared.domain.model import ChannelKind, ConsentState
from shared.store import consent_records as records
from shared.store import contact_records
from shared.store.consent_records import ConsentRecord, Wanted

READ: Final = "consents:read"
WRITE: Final = "consents:write"
MOST_SHOWN: Final = 50  # entries that an answer shows of a contact, the newest
_POSITION: Final = TypeAdapter(records.Position)

_CONTACT: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4d"
STOP: Final[dict[str, Any]] = {
    "id": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c80",
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "contactId": _CONTACT,
    "channelKind": "whatsapp",
    "scope": "all",
    "state": "opted_out",
    "source": "api",
    "messageId": None,
    "evidence": {"by": "api", "reason": "asked by phone"},
    "effectiveAt": "2026-11-28T16:00:00Z",
    "createdAt": "2026-11-28T16:00:00Z",
    "holds": True,
}
_START: Final = STOP | {"state": "opted_in", "evidence": {"by": "api", "reason": "form 7 of our shop, signed"}}


class ConsentEntry(Part):
    """An opt-in or opt-out of a contact, for a kind of channel. Entries are added, and never changed."""

    id: UUID
    tenant_id: UUID
    contact_id: UUID
    channel_kind: ChannelKind
    scope: Literal["all", "blocked", "marketing"] = Field(
        description="What it is of: everything, everything until they write again, or only marketing."
    )
    state: ConsentState
    source: Literal["message", "provider", "api", "import"]
    message_id: UUID | None = Field(description="The customer's message, where that is the evidence.")
    evidence: dict[str, Any]
    effective_at: datetime
    created_at: datetime
    holds: bool = Field(description="It is the newest of its contact, kind of channel and scope, so it counts.")

    @classmethod
    def of(cls, record: ConsentRecord) -> "ConsentEntry":
        """The entry of a row. What a client wrote by SQL may hold anything where an object belongs."""
        shown = {name: getattr(record, name) for name in cls.model_fields}
        shown["evidence"] = as_object(record.evidence)
        return cls.model_validate(shown)


class ConsentPage(Page):
    consents: list[ConsentEntry]


class ConsentsAnswer(Output):
    """What holds for the contact now on this kind of channel."""

    consents: list[ConsentEntry]


class ListConsents(ListInput):
    contact_id: UUID | None = None
    channel_kind: ChannelKind | None = None
    state: ConsentState | None = None


class _Wish(TenantInput):
    contact_id: UUID
    channel_kind: ChannelKind
    scope: Literal["all", "marketing"] = Field(
        default="all", description="all: every message. marketing: only bulk messages and marketing templates."
    )


class OptOut(_Wish):
    reason: Annotated[str, StringConstraints(max_length=500, strip_whitespace=True)] = ""


class OptIn(_Wish):
    evidence: Annotated[str, StringConstraints(min_length=3, max_length=500, strip_whitespace=True)] = Field(
        description="How and when the contact agreed, so that you can prove it: a form's number, a call, a checkbox."
    )


@query("consents.list", scope=READ, examples=[Example({"limit": 1}, {"consents": [STOP], "nextCursor": None})])
async def list_(call: Call, given: ListConsents) -> ConsentPage:
    """List the entries of the ledger, the last one entered first.

    With filters that few entries fit, a page may hold less than `limit`, or nothing, and yet have a `nextCursor`: go on
    with it.
    """
    wanted = Wanted(given.contact_id, given.channel_kind, given.state)
    after = cursors.position(call, given, _POSITION)
    rows, read_up_to = await records.page(call.connection, call.tenant_id, wanted, after, given.limit + 1)
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id), read_up_to)
    return ConsentPage(consents=[ConsentEntry.of(row) for row in shown], next_cursor=next_cursor)


@mutation(
    "consents.optOut",
    scope=WRITE,
    examples=[
        Example({"contactId": _CONTACT, "channelKind": "whatsapp", "reason": "asked by phone"}, {"consents": [STOP]})
    ],
)
async def opt_out(call: Call, given: OptOut) -> ConsentsAnswer:
    """Enter that a contact wants no more messages. What is queued to them is stopped too."""
    return await _enter(call, given, "opted_out", given.reason)


@mutation(
    "consents.optIn",
    scope=WRITE,
    examples=[
        Example(
            {"contactId": _CONTACT, "channelKind": "whatsapp", "evidence": "form 7 of our shop, signed"},
            {"consents": [_START]},
        )
    ],
)
async def opt_in(call: Call, given: OptIn) -> ConsentsAnswer:
    """Enter that a contact agrees to messages, with the evidence. It lifts an opt-out, and of `all` a block too.

    WhatsApp's own switch against marketing messages is the customer's alone: Meta refuses the messages all the same.
    """
    return await _enter(call, given, "opted_in", given.evidence)


async def _enter(call: Call, given: _Wish, state: ConsentState, reason: str) -> ConsentsAnswer:
    # A deleted contact too: if they come back, what they asked for holds.
    if await contact_records.get(call.connection, call.tenant_id, given.contact_id) is None:
        raise not_found("contact", "contactId")
    evidence = {"by": "api", "api_key_id": str(call.caller.key_id)} | ({"reason": reason} if reason else {})
    wish = Wish(
        call.tenant_id,
        given.contact_id,
        given.channel_kind,
        state,
        given.scope == "marketing",
        evidence,
        None if call.idempotency_key is None else f"api:{call.idempotency_key}",
    )
    try:
        await consents.enter(call.connection, wish)
    except OtherWish:
        raise Problem(IDEMPOTENCY_MISMATCH, "This Idempotency-Key came with another consent. Take a new one.") from None
    wanted = Wanted(given.contact_id, given.channel_kind)
    rows, _ = await records.page(call.connection, call.tenant_id, wanted, None, MOST_SHOWN)
    return ConsentsAnswer(consents=[ConsentEntry.of(row) for row in rows if row.holds])
