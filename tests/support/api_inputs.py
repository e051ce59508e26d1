"""Inputs for every procedure of the API, made from its declaration: its first example, with ids of rows that are there.

A row of a family is made by the family's own `create`. What has none, or needs a state first, has a line here.
"""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ingress.api.declaration import AnyProcedure, registry
from shared.database import new_id
from tests.support import api_campaigns, api_conversations, api_rows, node
from tests.support.api import ApiStage, Tenant

Given = dict[str, Any]
Making = Callable[[ApiStage, Tenant], Awaitable[str]]

_NUMBERS = itertools.count(34_600_000_000)


async def channel(api: ApiStage, whose: Tenant) -> str:
    """A WhatsApp channel of this tenant, which nothing is sent through."""
    channel_id = new_id()
    await api.pool.execute(
        "INSERT INTO channels (id, tenant_id, provider, kind, address, credentials) "
        "VALUES ($1, $2, 'twilio', 'whatsapp', $3, '')",
        channel_id,
        whose.id,
        f"+{next(_NUMBERS)}",
    )
    return str(channel_id)


# Families without a `create` that makes a row from its example alone.
MAKERS: Final[dict[str, Making]] = {
    "channels": channel,
    "whatsappInstances": channel,
    "recipients": lambda api, whose: row(api, whose, "groups"),  # as the example of campaigns.create says
    "conversations": api_conversations.make,
    "messagesHistory": api_conversations.make_message,
    "templates": api_conversations.make_template,
    "system": api_rows.unknown_send,
    "media": api_rows.file,
    "sessions": api_rows.session,
    "imports": api_rows.contact_import,
    "logs": api_rows.webhook_log,
}

# Rows that a procedure needs in a state that no other needs, by its name and the member that names the row.
ROWS: Final[dict[tuple[str, str], Making]] = {
    ("messageTemplates.sync", "channelId"): api_rows.channel_at_the_sandbox,
    ("campaigns.again", "id"): api_campaigns.in_state("completed"),
    ("campaigns.preview", "id"): api_campaigns.in_state("draft"),
    ("campaigns.unschedule", "id"): api_campaigns.in_state("scheduled"),
    ("campaigns.pause", "id"): api_campaigns.in_state("running"),
    ("campaigns.resume", "id"): api_campaigns.in_state("paused"),
    ("campaigns.cancel", "id"): api_campaigns.in_state("running"),
}

# What a procedure's row must have gone through first, by its name.
BEFORE: Final[dict[str, str]] = {
    "contacts.restore": "contacts.delete",
    "groups.removeContacts": "groups.addContacts",
    "conversations.reopen": "conversations.close",
    "conversations.returnToBot": "conversations.escalate",
}

# Members of an example that must differ from call to call, or another row is in the way.
FRESH: Final[dict[str, Callable[[], Any]]] = {
    "phoneNumber": lambda: f"+{next(_NUMBERS)}",
    "name": lambda: f"Name {next(_NUMBERS)}",
    "address": lambda: f"+{next(_NUMBERS)}",
    "phoneNumberId": lambda: str(next(_NUMBERS)),
}

# Members that end with Id and name what is a provider's.
FOREIGN: Final = ("phoneNumberId", "businessId")


def properties(procedure: AnyProcedure) -> dict[str, Any]:
    """The JSON Schema of each member of the input, by its name."""
    found: dict[str, Any] = procedure.input.model_json_schema(by_alias=True).get("properties", {})
    return found


def id_fields(procedure: AnyProcedure) -> list[str]:
    """The members of the input that name rows, but the tenant."""
    ours = [name for name in properties(procedure) if name not in ("tenantId", *FOREIGN)]
    return [name for name in ours if name == "id" or name.endswith(("Id", "Ids"))]


def family_of(procedure: AnyProcedure, field: str) -> str:
    """Whose rows an id names: `contactIds` → `contacts`, `id` → the procedure's own family."""
    if field == "id":
        return procedure.family
    return field.removesuffix("s").removesuffix("Id") + "s"


async def row(api: ApiStage, whose: Tenant, family: str) -> str:
    """The id of a new row of this family and tenant."""
    if family in MAKERS:
        return await MAKERS[family](api, whose)
    create = registry().get(f"{family}.create")
    assert create is not None, f"add a line to MAKERS: how is one of {family} made?"
    answer = await api.call(create, whose, await valid(api, whose, create))
    assert answer.status == 201, answer.body
    made = next(member for member in answer.body.values() if isinstance(member, dict) and "id" in member)
    return str(made["id"])


async def valid(api: ApiStage, whose: Tenant, procedure: AnyProcedure) -> Given:
    """An input that succeeds now, once."""
    given = dict(procedure.examples[0].given)
    for name in given:
        if name in FRESH and procedure.verb == "create":
            given[name] = FRESH[name]()
    for name in id_fields(procedure):
        if name in given:
            making = ROWS.get((procedure.name, name))
            made = await (making(api, whose) if making else row(api, whose, family_of(procedure, name)))
            given[name] = [made] if isinstance(given[name], list) else made
    if "ids" in given:
        given["ids"] = [await api_rows.dead_letter(api)]
    if (before := BEFORE.get(procedure.name)) is not None:
        known = properties(registry()[before])
        answer = await api.call(registry()[before], whose, {name: given[name] for name in given if name in known})
        assert answer.status == 200, answer.body
    return given


async def caller(api: ApiStage, procedure: AnyProcedure, *scopes: str) -> Tenant:
    """A new tenant, or a new operator's key for an operator's procedure."""
    return await (api.operator(*scopes) if procedure.operator else api.tenant(*scopes))


async def stated(api: ApiStage, whose: Tenant) -> str:
    """The document's statements whose procedures there are, about this tenant and a channel of theirs."""
    text = "".join(node.statements(registry()))
    return text.replace("tenant-uuid", str(whose.id)).replace("instance-uuid", await channel(api, whose))
