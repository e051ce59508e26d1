"""What the five documents do over their own APIs, done over this one: statement for statement, by the names they use.

| document | says | here |
|---|---|---|
| one | `checkWhatsApp24HourWindow(conversationId)`, `isWithin24HourWindow(…)` | `conversations.window` |
| one | `sendWhatsAppMessage(phone, message)` | `conversations.send` |
| one | `sendWhatsAppTemplate(phone, templateId, params)` | `conversations.sendTemplate` |
| one | `getConversationsNeedingTemplates('twilio')` | `conversations.needingTemplates` |
| one, two | `active_conversations_by_provider` | `stats.providers` |
| one, two | conversations by provider and status, newest message first | `conversations.list` |
| two | the conversation of a provider and a phone number | `conversations.list` with `provider` and `phone` |
| two | `queueTemplateMessage(conversationId, templateId)` | `conversations.queueTemplateMessage` |
| three | a distributor sees its own conversations and messages, on WhatsApp, SMS and e-mail | the key's tenant |
| four | "configure WhatsApp settings via API", "verify endpoints are working" | `whatsappSettings.*` |
| four | `whatsapp_sessions`, `whatsapp_messages` | `sessions.*`, `conversations.messages` |
| five | its statements: `test_trpc_clients.py`. Its routers and events | the procedures, `GET /v1/events` |

Inserts of conversations and messages by the documents one and two are the database's (tests/schema/): over this API a
customer's message begins a conversation. In document four `webhookUrl` is entered; here the API gives it.
"""

import hmac
from datetime import timedelta
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from ingress.api.declaration import registry
from tests.ingress.api.test_trpc_clients import calls, versions
from tests.support import api_rows
from tests.support.api import ApiStage, Tenant
from tests.support.api_conversations import add_channel, add_conversation, make_template, say
from tests.support.api_inputs import valid
from tests.support.ingress import ingress, until
from tests.support.meta_payloads import body, entry, said, value
from tests.support.node import Version

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITHIN_THE_WINDOW, LATER = timedelta(hours=1), timedelta(hours=25)

# Documents one and two, "Check 24-Hour Window" and the practices that follow.
SEND = """
const windowStatus = await trpc.conversations.window.query({ id: conversationId });
const conversation = (await trpc.conversations.get.query({ id: conversationId })).conversation;
const isWithin24HourWindow = (at) => at !== null && Date.now() - new Date(at).getTime() < 24 * 60 * 60 * 1000;
const agreed = windowStatus.canSendProactive === isWithin24HourWindow(conversation.lastUserMessageAt);
const sent = windowStatus.canSendProactive
  ? await trpc.conversations.send.mutate({ id: conversationId, content: message })
  : await trpc.conversations.sendTemplate.mutate({ id: conversationId, template: templateId, variables: params });
const queued = await trpc.conversations.queueTemplateMessage.mutate({ conversationId, templateId, variables: params });
return { agreed, sent: sent.message, queued: queued.message };
"""
# "Get Provider Statistics", "Query by Provider", "Find or Create", `getConversationsNeedingTemplates`.
FIND = """
const stats = (await trpc.stats.providers.query()).providers;
const active = (await trpc.conversations.list.query({ provider: "twilio", status: "active" })).conversations;
const phone = active[0].phone;
const [conversation] = (await trpc.conversations.list.query({ provider: "twilio", phone })).conversations;
const needing = (await trpc.conversations.needingTemplates.query({ provider: "twilio" })).conversations;
return { stats, active, conversation, needing };
"""


def given(**names: Any) -> str:
    """The constants of a script."""
    return "".join(f"const {name} = {value!r};\n" for name, value in names.items())


@versions
@pytest.mark.parametrize("last_message_ago", [WITHIN_THE_WINDOW, LATER], ids=["open", "closed"])
async def test_one_and_two_write_inside_the_window_and_send_a_template_outside(
    one_api: ApiStage, version: Version, last_message_ago: timedelta
) -> None:
    ana = await one_api.tenant()
    conversation = await add_conversation(one_api, ana, last_message_ago=last_message_ago)
    names = given(
        conversationId=str(conversation), message="Hola", templateId=await make_template(one_api, ana),
        params={"1": "Juan"},
    )  # fmt: skip
    reply = await calls(one_api, ana, version, "httpBatchLink", script=names + SEND)
    assert reply.value["agreed"] is True
    is_open = last_message_ago < timedelta(hours=24)
    assert reply.value["sent"]["messageType"] == ("text" if is_open else "template")
    assert reply.value["queued"]["messageType"] == "template"
    assert {one["status"] for one in (reply.value["sent"], reply.value["queued"])} == {"queued"}


@versions
async def test_one_and_two_find_conversations_and_count_them_by_provider(one_api: ApiStage, version: Version) -> None:
    ana = await one_api.tenant()
    newest, older, silent = [
        await add_conversation(one_api, ana, last_message_ago=ago) for ago in (timedelta(0), WITHIN_THE_WINDOW, LATER)
    ]
    for age, one in enumerate((newest, older, silent)):
        await one_api.pool.execute(
            "UPDATE conversations SET last_message_at = now() - $2 * interval '1 hour' WHERE id = $1", one, age
        )
    escalated = await add_conversation(one_api, ana, provider="kommo")
    await one_api.post(f"/v1/conversations/{escalated}/escalate", ana, {})
    reply = await calls(one_api, ana, version, "httpBatchLink", script=FIND)
    assert {row["provider"]: row for row in reply.value["stats"] if row["total"]} == {
        "kommo": {"provider": "kommo", "total": 1, "active": 0, "escalated": 1, "within24h": 1},
        "twilio": {"provider": "twilio", "total": 3, "active": 3, "escalated": 0, "within24h": 2},
    }
    assert [one["id"] for one in reply.value["active"]] == [str(newest), str(older), str(silent)]
    assert reply.value["conversation"]["id"] == str(newest)
    assert [one["id"] for one in reply.value["needing"]] == [str(silent)]
    columns = {"id", "provider", "phone", "contactName", "kommoChatId", "status", "lastMessageAt", "lastUserMessageAt",
               "createdAt", "updatedAt", "metadata"}  # fmt: skip
    assert columns <= set(reply.value["conversation"])


async def test_three_shows_a_distributor_its_own_conversations_and_messages_alone(one_api: ApiStage) -> None:
    ana, eva = await one_api.tenant(), await one_api.tenant()
    kinds = {"whatsapp": "twilio", "sms": "twilio", "email": "email"}
    for kind, provider in kinds.items():
        channel = await add_channel(one_api, ana, provider, kind)
        conversation = await add_conversation(one_api, ana, channel, provider=provider, kind=kind)
        (message,) = await say(one_api, ana, conversation, f"by {kind}")
        await one_api.pool.execute("UPDATE messages SET message_type = 'file' WHERE id = $1", message)
        at = f"/v1/conversations/{conversation}"
        shown = (await one_api.get(at, ana)).body["conversation"]
        assert (shown["channelId"], shown["unreadCount"]) == (str(channel), 2)
        assert shown["aiContextSummary"] is None
        (stored,) = (await one_api.get(f"{at}/messages", ana)).body["messages"]
        assert (stored["content"], stored["messageType"], stored["role"]) == (f"by {kind}", "file", "user")
        assert stored["externalId"]
        for path in (at, f"{at}/messages", f"/v1/messages-history/{message}"):
            assert (await one_api.get(path, eva)).problem == "not-found"
    assert len((await one_api.get("/v1/conversations", ana)).body["conversations"]) == len(kinds)
    for path, member in (("/v1/conversations", "conversations"), ("/v1/messages-history", "messages")):
        assert (await one_api.get(path, eva)).body[member] == []


# A row of the document's table; the values are ours.
SETTINGS = {
    "apiKey": "the-app-secret",
    "phoneNumberId": "106540352242922",
    "businessId": "102290129340398",
    "accessToken": "EAAG-token",
    "webhookToken": "our-word",
    "isActive": True,
}


async def test_four_configures_settings_over_the_api_and_its_endpoint_works(one_api: ApiStage) -> None:
    ana = await one_api.tenant()
    async with ingress(one_api.settings) as provider:
        made = (await one_api.post("/v1/whatsapp-settings", ana, SETTINGS)).body["whatsappSettings"]
        assert set(SETTINGS) | {"id", "webhookUrl", "lastUpdatedAt", "createdAt"} <= set(made)
        assert (made["phoneNumberId"], made["businessId"], made["isActive"]) == (
            "106540352242922",
            "102290129340398",
            True,
        )
        path = urlsplit(made["webhookUrl"]).path
        challenge = {"hub.mode": "subscribe", "hub.verify_token": "our-word", "hub.challenge": "1158201444"}

        async def is_verified() -> bool:
            async with provider.get(path, params=challenge) as answer:
                return (answer.status, await answer.text()) == (200, "1158201444")

        await until(is_verified)  # the endpoints that are known to `receive` follow the table
        webhook = body(entry(value(said())))
        signature = "sha256=" + hmac.new(b"the-app-secret", webhook, "sha256").hexdigest()
        headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"}
        async with provider.post(path, data=BytesIO(webhook), headers=headers) as answer:
            assert answer.status == 200, await answer.text()
    at = f"/v1/whatsapp-settings/{made['id']}"
    changed = (await one_api.patch(at, ana, {"accessToken": "EAAG-other", "isActive": False})).body["whatsappSettings"]
    assert changed["isActive"] is False
    assert changed["lastUpdatedAt"] > made["lastUpdatedAt"]
    tested = await one_api.post(f"{at}/test", ana, {})
    assert (tested.status, tested.body["works"]) == (200, False), "there is no Meta at this address"
    entered = await one_api.patch(at, ana, {"webhookUrl": made["webhookUrl"]})
    assert (entered.problem, entered.pointers) == ("invalid-input", ["#/webhookUrl"])


async def test_four_reads_sessions_and_their_messages(one_api: ApiStage) -> None:
    ana = await one_api.tenant()
    session_id = await api_rows.session(one_api, ana)
    session = (await one_api.get(f"/v1/sessions/{session_id}", ana)).body["session"]
    columns = {
        "id",
        "phoneNumber",
        "customerProfileId",
        "state",
        "contextData",
        "lastMessageAt",
        "createdAt",
        "updatedAt",
    }
    assert columns <= set(session)
    assert session["state"] == "BROWSING_CATEGORIES"
    conversation = UUID(session["conversationId"])
    await say(one_api, ana, conversation, "hola")
    await one_api.post(f"/v1/conversations/{conversation}/send", ana, {"content": "¿Qué buscas?"})
    messages = (await one_api.get(f"/v1/conversations/{conversation}/messages", ana)).body["messages"]
    assert {(one["direction"], one["content"]) for one in messages} == {
        ("inbound", "hola"),
        ("outbound", "¿Qué buscas?"),
    }
    assert {"externalId", "messageType", "metadata", "createdAt"} <= set(messages[0])


async def test_five_has_an_event_for_every_change(one_api: ApiStage) -> None:
    ana = await one_api.tenant()
    start = (await one_api.get("/v1/events?after=now", ana)).body["cursor"]
    expected = []
    for family, name in (
        ("contacts", "contact"), ("groups", "group"), ("messageTemplates", "template"), ("webhooks", "webhook"),
        ("campaigns", "campaign"),
    ):  # fmt: skip
        for verb in ("create", "update", "delete"):
            await done(one_api, ana, f"{family}.{verb}")
            expected.append(f"{name}_{verb}d")
    happened = (await one_api.get("/v1/events", ana, params={"after": start, "limit": "200"})).body["events"]
    names = [one["name"] for one in happened]
    assert set(expected) <= set(names)
    for whole in (*(name for name in expected if name.endswith("_deleted")), "contact_updated"):
        assert names.count(whole) == 1
    known = {one["name"] for one in (await one_api.get("/v1/events/types", ana)).body["eventTypes"]}
    assert {*expected, "campaign_status_changed", "webhook_triggered"} <= known


async def done(api: ApiStage, whose: Tenant, name: str) -> None:
    procedure = registry()[name]
    answer = await api.call(procedure, whose, await valid(api, whose, procedure))
    assert answer.status in (200, 201), answer.body
