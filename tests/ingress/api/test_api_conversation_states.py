"""conversations.*: the bot or a person, the 24-hour window, and templates."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.database import new_id
from shared.store import reply_leases
from tests.support.api import Answer, ApiStage, Tenant
from tests.support.api_conversations import add_conversation, make_template

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTENT_SID = "HX0123456789abcdef0123456789abcdef"


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def step(api: ApiStage, whose: Tenant, conversation_id: UUID, verb: str, **given: Any) -> Answer:
    return await api.post(f"/v1/conversations/{conversation_id}/{verb}", whose, given)


async def events(api: ApiStage, whose: Tenant) -> list[str]:
    return [one["name"].removeprefix("conversation.") for one in await api.events(whose, "conversation")]


async def test_a_conversation_goes_from_the_bot_to_a_person_and_back(api: ApiStage) -> None:
    ana = await api.tenant()
    talk = await add_conversation(api, ana)
    for verb, status in (
        ("escalate", "escalated"), ("escalate", "escalated"), ("return-to-bot", "active"), ("return-to-bot", "active"),
        ("close", "closed"), ("close", "closed"), ("reopen", "active"), ("close", "closed"), ("escalate", "escalated"),
    ):  # fmt: skip
        answer = await step(api, ana, talk, verb)
        assert (answer.status, answer.body["conversation"]["status"]) == (200, status), verb
    reopened = await step(api, ana, talk, "reopen")
    assert (reopened.problem, reopened.pointers) == ("conflict", ["#/id"])
    assert "returnToBot" in str(reopened.body["errors"])
    await step(api, ana, talk, "close")
    assert (await step(api, ana, talk, "return-to-bot")).problem == "conflict"
    assert await events(api, ana) == [
        "escalated", "returned_to_bot", "closed", "reopened", "closed", "escalated", "closed",
    ]  # fmt: skip


async def test_an_escalation_stops_the_engine(api: ApiStage) -> None:
    ana = await api.tenant()
    talk = await add_conversation(api, ana)
    await api.pool.execute(
        "UPDATE conversations SET reply_due_at = now(), reply_wanted_since = now(), "
        "reply_lease_id = gen_random_uuid(), reply_lease_until = now() + interval '1 minute', next_out_seq = 3 "
        "WHERE id = $1",
        talk,
    )
    answer, sent = new_id(), new_id()
    for place, message_id, key in ((1, answer, f"reply:{new_id()}"), (2, sent, f"api:{new_id()}")):
        await api.pool.execute(
            "INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, "
            "content, dedupe_key, out_seq, due_at) SELECT $1, tenant_id, id, channel_id, provider, 'outbound', "
            "'assistant', 'queued', 'hello', $2, $3, now() FROM conversations WHERE id = $4",
            message_id, key, place, talk,
        )  # fmt: skip
    await step(api, ana, talk, "escalate")
    assert await api.rows(
        "SELECT reply_due_at, reply_wanted_since, reply_lease_id FROM conversations WHERE id = $1", talk
    ) == [{"reply_due_at": None, "reply_wanted_since": None, "reply_lease_id": None}]
    found = await api.rows("SELECT status FROM messages WHERE conversation_id = $1 ORDER BY out_seq", talk)
    assert [one["status"] for one in found] == ["canceled", "queued"], "what a person sends still leaves"
    canceled = "SELECT message_id, detail FROM events WHERE name = 'message.canceled' AND conversation_id = $1"
    assert await api.rows(canceled, talk) == [{"message_id": answer, "detail": {"error_code": "escalated"}}]


@pytest.mark.parametrize(("first", "then"), [("escalate", "return-to-bot"), ("close", "reopen")])
async def test_an_answer_that_is_being_made_loses_its_lease(api: ApiStage, first: str, then: str) -> None:
    ana = await api.tenant()
    talk, lease = await add_conversation(api, ana), new_id()
    leased = "UPDATE conversations SET reply_lease_id = $1, reply_lease_until = now() + '1 hour' WHERE id = $2"
    await api.pool.execute(leased, lease, talk)
    for verb in (first, then):
        assert (await step(api, ana, talk, verb)).status == 200
    async with api.pool.acquire() as connection, connection.transaction():
        assert ana.id is not None
        state = await reply_leases.lock_for_answer(connection, ana.id, talk, lease)
    assert state is not None
    assert (state.active, state.ours) == (True, False), "the answer is to what was said before the person stepped in"


async def test_a_conversation_is_read_and_assigned(api: ApiStage) -> None:
    ana = await api.tenant()
    talk = await add_conversation(api, ana)
    assert (await step(api, ana, talk, "mark-read")).body["conversation"]["unreadCount"] == 0
    await step(api, ana, talk, "mark-read")
    assigned = await step(api, ana, talk, "assign", assignedTo=" user 7 ")
    assert assigned.body["conversation"]["assignedTo"] == "user 7"
    assert (await step(api, ana, talk, "assign")).pointers == ["#/assignedTo"]
    old = {"If_Match": '"1"'}
    refused = await api.post(f"/v1/conversations/{talk}/assign", ana, {"assignedTo": None}, **old)
    assert (refused.status, refused.problem) == (412, "version-mismatch")
    current = {"If_Match": assigned.headers["ETag"]}
    free = await api.post(f"/v1/conversations/{talk}/assign", ana, {"assignedTo": None}, **current)
    assert free.body["conversation"]["assignedTo"] is None
    assert await events(api, ana) == ["read", "assigned", "assigned"]


async def test_the_window_is_shown_and_the_closed_ones_are_listed(api: ApiStage) -> None:
    ana = await api.tenant()
    open_, closed = [await add_conversation(api, ana, last_message_ago=timedelta(hours=n)) for n in (1, 25)]
    sms = await add_conversation(api, ana, kind="sms", last_message_ago=timedelta(hours=25))
    found = [(await api.get(f"/v1/conversations/{one}/window", ana)).body for one in (open_, closed, sms)]
    assert [one["canSendProactive"] for one in found] == [True, False, True]
    assert [one["openUntil"] is None for one in found] == [False, False, True]
    needing = await api.get("/v1/conversations/needing-templates", ana, params={"provider": "twilio"})
    assert [one["id"] for one in needing.body["conversations"]] == [str(closed)]
    assert (await api.get("/v1/conversations/needing-templates", ana)).pointers == ["#/provider"]


async def test_a_template_is_queued_once_for_ever(api: ApiStage) -> None:
    ana = await api.tenant()
    talk = await add_conversation(api, ana, last_message_ago=timedelta(hours=25))
    given = {"template": CONTENT_SID, "variables": {"1": "Ana"}}
    at = f"/v1/conversations/{talk}/send-template"
    first = await api.post(at, ana, given, Idempotency_Key="order 7")
    assert first.status == 200, first.body
    message = first.body["message"]
    assert (message["status"], message["messageType"]) == ("queued", "template")
    assert message["template"] == {"name": CONTENT_SID, "variables": {"1": "Ana"}, "language": None}
    await api.pool.execute("DELETE FROM idempotency_keys")
    assert (await api.post(at, ana, given, Idempotency_Key="order 7")).body == first.body
    of_talk = "FROM messages WHERE conversation_id = $1"
    assert await api.rows(f"SELECT due_at > now() AS later {of_talk}", talk) == [{"later": True}]
    assert [one["name"] for one in await api.events(ana, "message")] == ["message.queued"]
    others: list[dict[str, Any]] = [
        {"template": "welcome"}, {"variables": {"1": "Eva"}}, {"variables": {}}, {"language": "en_US"},
    ]  # fmt: skip
    for other in others:
        await api.pool.execute("DELETE FROM idempotency_keys WHERE tenant_id = $1", ana.id)
        refused = await api.post(at, ana, given | other, Idempotency_Key="order 7")
        assert refused.body.get("status") == 422, other
        assert refused.problem == "idempotency-mismatch"


async def test_a_template_of_ours_is_queued_by_its_id(api: ApiStage) -> None:
    ana = await api.tenant()
    talk, template = await add_conversation(api, ana), await make_template(api, ana)
    given = {"templateId": template, "variables": {"1": "Ana"}}
    at = f"/v1/conversations/{talk}/queue-template-message"
    answer = await api.post(at, ana, given, Idempotency_Key="order 8")
    assert (answer.status, answer.body["message"]["content"]) == (200, "Hola Ana")
    await api.pool.execute("DELETE FROM idempotency_keys WHERE tenant_id = $1", ana.id)
    assert (await api.post(at, ana, given, Idempotency_Key="order 8")).body == answer.body
    await api.pool.execute("UPDATE message_templates SET status = 'rejected' WHERE tenant_id = $1", ana.id)
    refused = await api.post(f"/v1/conversations/{talk}/queue-template-message", ana, given)
    assert (refused.problem, refused.pointers) == ("invalid-input", ["#/templateId"])
    assert "rejected" in refused.body["detail"]


@pytest.mark.parametrize("provider", ["kommo", "email"])
async def test_a_channel_without_templates_refuses_them(api: ApiStage, provider: str) -> None:
    ana = await api.tenant()
    talk = await add_conversation(api, ana, provider=provider, kind="email" if provider == "email" else "whatsapp")
    answer = await step(api, ana, talk, "send-template", template="welcome")
    assert (answer.status, answer.problem) == (409, "conflict")
    assert "no templates" in answer.body["detail"]


async def test_meta_needs_the_templates_language(api: ApiStage) -> None:
    ana = await api.tenant()
    talk = await add_conversation(api, ana, provider="meta")
    refused = await step(api, ana, talk, "send-template", template="welcome")
    assert (refused.problem, refused.pointers) == ("invalid-input", ["#/language"])
    assert (await step(api, ana, talk, "send-template", template="welcome", language="en_US")).status == 200


async def test_no_marketing_template_leaves_after_an_opt_out_of_marketing(api: ApiStage) -> None:
    ana = await api.tenant()
    talk, template = await add_conversation(api, ana), await make_template(api, ana)
    await api.pool.execute("UPDATE message_templates SET category = 'MARKETING' WHERE tenant_id = $1", ana.id)
    await api.pool.execute(
        "INSERT INTO consents (id, tenant_id, contact_id, channel_kind, state, source, effective_at, scope) "
        "SELECT gen_random_uuid(), tenant_id, contact_id, 'whatsapp', 'opted_out', 'message', now(), 'marketing' "
        "FROM conversations WHERE id = $1",
        talk,
    )
    refused = await step(api, ana, talk, "send-template", template=template, variables={"1": "Ana"})
    assert refused.problem == "conflict"
    assert "marketing" in refused.body["detail"]
    assert await api.rows("SELECT FROM messages WHERE tenant_id = $1", ana.id) == []
    assert (await step(api, ana, talk, "send-template", template=CONTENT_SID)).status == 200
