"""conversations.*: lists, and sends that are made once and refused clearly."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from ops.local.stack import Stack
from shared.database import new_id
from shared.process import metrics
from shared.store import conversation_records
from tests.support.api import Answer, ApiStage, Tenant
from tests.support.api_conversations import add_channel, add_conversation, say
from tests.support.broker_faults import paused

pytestmark = pytest.mark.asyncio(loop_scope="module")

SENT = "Good morning, Ana."


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def send(api: ApiStage, whose: Tenant, conversation_id: UUID, content: str = SENT, **headers: str) -> Answer:
    return await api.post(f"/v1/conversations/{conversation_id}/send", whose, {"content": content}, **headers)


async def listed(api: ApiStage, whose: Tenant, **params: str) -> list[str]:
    answer = await api.get("/v1/conversations", whose, params=params)
    assert answer.status == 200, answer.body
    return [one["id"] for one in answer.body["conversations"]]


async def pages(api: ApiStage, path: str, whose: Tenant, member: str, **params: str) -> list[list[Any]]:
    """All pages of a list."""
    found: list[list[Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await api.get(path, whose, params=params | cursor)
        assert answer.status == 200, answer.body
        found.append(answer.body[member])
        if answer.body["nextCursor"] is None:
            return found
        cursor = {"cursor": answer.body["nextCursor"]}


async def test_a_broker_that_stands_still_holds_up_no_answer(api: ApiStage, stack: Stack) -> None:
    ana = await api.tenant()
    talk = await add_conversation(api, ana)
    async with asyncio.timeout(20):
        before = published()
        while published() == before:  # until the API is connected
            await send(api, ana, talk)
    with paused(stack):
        began = time.monotonic()
        sent = await send(api, ana, talk)
        assert time.monotonic() - began < api.settings.publish_timeout / 2
    assert sent.status == 200
    message = UUID(sent.body["message"]["id"])
    assert await api.rows("SELECT status, due_at IS NOT NULL AS due FROM messages WHERE id = $1", message) == [
        {"status": "queued", "due": True}
    ]


def published() -> float:
    """How many jobs the API, which runs in this process, has published."""
    (counter,) = metrics.PUBLISHED.collect()
    return sum(sample.value for sample in counter.samples if sample.name.endswith("_total"))


async def test_conversations_are_listed_by_their_last_message(api: ApiStage) -> None:
    ana = await api.tenant()
    channel = await add_channel(api, ana)
    ids = [str(await add_conversation(api, ana, channel)) for _ in range(5)]
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    for minutes, conversation_id in enumerate(ids):  # the last two are of one moment
        await api.pool.execute(
            "UPDATE conversations SET last_message_at = $2 WHERE id = $1",
            UUID(conversation_id), at + timedelta(minutes=min(minutes, 3)),
        )  # fmt: skip
    newest = [*sorted(ids[3:], reverse=True), *reversed(ids[:3])]
    assert await listed(api, ana) == newest
    found = await pages(api, "/v1/conversations", ana, "conversations", limit="2")
    assert [[one["id"] for one in page] for page in found] == [newest[:2], newest[2:4], newest[4:]]
    since, until = (at + timedelta(minutes=1)).isoformat(), (at + timedelta(minutes=3)).isoformat()
    assert await listed(api, ana, lastMessageSince=since) == newest[:4]
    assert await listed(api, ana, lastMessageUntil=until) == newest[2:]
    assert await listed(api, ana, lastMessageSince=since, lastMessageUntil=until) == newest[2:4]


async def test_what_sql_wrote_where_an_object_belongs_is_shown_as_none(api: ApiStage) -> None:
    ana = await api.tenant()
    conversation = await add_conversation(api, ana)
    contact_id = (await api.rows("SELECT contact_id FROM conversations WHERE id = $1", conversation))[0]["contact_id"]
    await api.pool.execute("UPDATE conversations SET metadata = '[]' WHERE id = $1", conversation)
    await api.pool.execute(
        "INSERT INTO consents (tenant_id, id, contact_id, channel_kind, scope, state, source, evidence)"
        " VALUES ($1, $2, $3, 'whatsapp', 'all', 'opted_in', 'api', '7')",
        *(ana.id, new_id(), contact_id),
    )
    at = f"/v1/conversations/{conversation}"
    assert await listed(api, ana) == [str(conversation)]
    assert (await api.get(at, ana)).body["conversation"]["metadata"] == {}
    assert (await api.post(f"{at}/escalate", ana, {})).status == 200
    (consent,) = (await api.get(f"/v1/contacts/{contact_id}/consents", ana)).body["consents"]
    assert consent["evidence"] == {}


async def test_conversations_are_found_by_provider_channel_and_status(api: ApiStage) -> None:
    ana = await api.tenant()
    channel = await add_channel(api, ana)
    one, other = await add_conversation(api, ana, channel), await add_conversation(api, ana, provider="meta")
    await api.pool.execute("UPDATE conversations SET status = 'escalated' WHERE id = $1", other)
    assert await listed(api, ana, provider="meta") == [str(other)]
    assert await listed(api, ana, channelId=str(channel)) == [str(one)]
    assert await listed(api, ana, status="escalated") == [str(other)]
    assert await listed(api, ana, status="active", provider="meta") == []
    await api.pool.execute("UPDATE conversations SET deleted_at = now() WHERE id = $1", one)
    assert await listed(api, ana) == [str(other)]
    assert (await api.get(f"/v1/conversations/{one}", ana)).problem == "not-found"
    assert (await api.get(f"/v1/conversations/{one}/messages", ana)).problem == "not-found"


async def test_conversations_are_found_by_their_customers_number(api: ApiStage) -> None:
    ana, eva = await api.tenant(), await api.tenant()
    channels = [await add_channel(api, ana) for _ in range(3)]
    ours = [await add_conversation(api, ana, channel) for channel in channels]
    theirs = await add_conversation(api, eva)
    number = "+14155238886"
    for place, conversation in enumerate((*ours[:2], theirs)):
        await api.pool.execute(
            "UPDATE conversations SET phone = $2, last_message_at = now() - $3 * interval '1 hour' WHERE id = $1",
            conversation, number, place,
        )  # fmt: skip
    found = [str(one) for one in ours[:2]]
    written = "+1 (415) 523-8886"
    assert await listed(api, ana, provider="twilio", phone=written) == found
    assert await listed(api, ana, provider="twilio", phone=number, channelId=str(channels[1])) == found[1:]
    assert await listed(api, ana, provider="meta", phone=number) == []
    both = await pages(api, "/v1/conversations", ana, "conversations", provider="twilio", phone=number, limit="1")
    assert [[one["id"] for one in page] for page in both] == [[one] for one in found]
    alone = await api.get("/v1/conversations", ana, params={"phone": number})
    assert (alone.problem, alone.pointers) == ("invalid-input", ["#/provider"])


@pytest.mark.parametrize(("statements", "status"), [("", "active"), ("_OF_STATUS", "closed")])
async def test_a_page_reads_a_bounded_number_of_conversations(
    api: ApiStage, monkeypatch: pytest.MonkeyPatch, statements: str, status: str
) -> None:
    for name in (f"_PAGE{statements}", f"_READ_UP_TO{statements}"):
        few = getattr(conversation_records, name).replace("LIMIT 1000", "LIMIT 3").replace("OFFSET 999", "OFFSET 2")
        monkeypatch.setattr(conversation_records, name, few)
    ana = await api.tenant()
    channel = await add_channel(api, ana)
    ids = [str(await add_conversation(api, ana, channel)) for _ in range(7)]
    await api.pool.execute("UPDATE conversations SET status = $1", status)
    params = {"status": status, "limit": "2"}
    assert await pages_of_ids(api, ana, **params) == [ids[6:4:-1], ids[4:2:-1], ids[2:0:-1], ids[:1]]
    other = await add_conversation(api, ana, provider="meta")
    at = datetime.now(UTC) - timedelta(days=1)
    await api.pool.execute(
        "UPDATE conversations SET status = $1, last_message_at = $3 WHERE id = $2", status, other, at
    )
    assert await pages_of_ids(api, ana, provider="meta", **params) == [[], [], [str(other)]]


async def pages_of_ids(api: ApiStage, whose: Tenant, **params: str) -> list[list[str]]:
    found = await pages(api, "/v1/conversations", whose, "conversations", **params)
    return [[one["id"] for one in page] for page in found]


async def test_a_conversation_and_its_messages_are_read(api: ApiStage) -> None:
    ana = await api.tenant()
    conversation_id = await add_conversation(api, ana)
    said = await say(api, ana, conversation_id, "one", "two", "three")
    await api.pool.execute(
        "UPDATE messages SET metadata = '[7]', media = '[1, {\"url\": \"x\"}]' WHERE id = $1", said[0]
    )
    conversation = (await api.get(f"/v1/conversations/{conversation_id}", ana)).body["conversation"]
    assert (conversation["status"], conversation["contactName"], conversation["provider"]) == (
        "active",
        "Ana",
        "twilio",
    )
    found = await pages(api, f"/v1/conversations/{conversation_id}/messages", ana, "messages", limit="2")
    assert [[one["content"] for one in page] for page in found] == [["three", "two"], ["one"]]
    assert found[1][0]["media"] == [{"url": "x"}]
    assert found[1][0]["metadata"] == {}


async def test_a_text_is_queued_with_its_event_and_due_after_its_handoff(api: ApiStage) -> None:
    ana = await api.tenant()
    conversation_id = await add_conversation(api, ana)
    first, second = await send(api, ana, conversation_id), await send(api, ana, conversation_id)
    message = first.body["message"]
    assert (message["status"], message["content"], message["direction"]) == ("queued", SENT, "outbound")
    assert second.body["message"]["id"] != message["id"]
    rows = await api.rows(
        "SELECT out_seq, lane, role, due_at > now() AS later, due_at < now() + interval '1 minute' AS soon "
        "FROM messages WHERE conversation_id = $1 ORDER BY out_seq", conversation_id,
    )  # fmt: skip
    as_queued = {"lane": "normal", "role": "assistant", "later": True, "soon": True}
    assert rows == [{"out_seq": 1} | as_queued, {"out_seq": 2} | as_queued]
    events = await api.rows(
        "SELECT message_id::text FROM events WHERE tenant_id = $1 AND name = 'message.queued' ORDER BY seq", ana.id
    )
    assert [event["message_id"] for event in events] == [message["id"], second.body["message"]["id"]]
    (conversation,) = await api.rows("SELECT next_out_seq FROM conversations WHERE id = $1", conversation_id)
    assert conversation == {"next_out_seq": 3}


async def test_a_send_is_made_once_for_ever(api: ApiStage) -> None:
    """Its Idempotency-Key is forgotten one day; the message still knows it."""
    ana = await api.tenant()
    conversation_id = await add_conversation(api, ana)
    first = await send(api, ana, conversation_id, Idempotency_Key="order 7")
    await api.pool.execute("DELETE FROM idempotency_keys")
    again = await send(api, ana, conversation_id, Idempotency_Key="order 7")
    assert (again.status, again.body) == (200, first.body)
    await api.pool.execute("DELETE FROM idempotency_keys")
    for conversation, content in ((conversation_id, "Another text"), (await add_conversation(api, ana), SENT)):
        answer = await send(api, ana, conversation, content, Idempotency_Key="order 7")
        assert (answer.status, answer.problem) == (422, "idempotency-mismatch")
    assert len(await api.rows("SELECT FROM messages WHERE tenant_id = $1", ana.id)) == 1
    assert [one["name"] for one in await api.events(ana, "message")] == ["message.queued"]


@pytest.mark.parametrize(("deleted", "says"), [("channels", "channel is deleted"), ("contacts", "contact is deleted")])
async def test_nothing_is_queued_to_what_is_deleted(api: ApiStage, deleted: str, says: str) -> None:
    ana = await api.tenant()
    conversation_id = await add_conversation(api, ana)
    await api.pool.execute(f"UPDATE {deleted} SET deleted_at = now() WHERE tenant_id = $1", ana.id)
    answer = await send(api, ana, conversation_id, Idempotency_Key="k")
    assert (answer.status, answer.problem, answer.pointers) == (409, "conflict", ["#/id"])
    assert says in answer.body["detail"]
    await api.pool.execute(f"UPDATE {deleted} SET deleted_at = NULL WHERE tenant_id = $1", ana.id)
    assert (await send(api, ana, conversation_id, Idempotency_Key="k")).status == 200, "a refusal leaves the key free"
    await api.pool.execute("UPDATE conversations SET deleted_at = now() WHERE tenant_id = $1", ana.id)
    assert (await send(api, ana, conversation_id)).problem == "not-found"


async def test_nothing_is_queued_to_a_customer_who_has_opted_out(api: ApiStage) -> None:
    ana = await api.tenant()
    conversation_id = await add_conversation(api, ana)
    await api.pool.execute(
        "INSERT INTO consents (id, tenant_id, contact_id, channel_kind, state, source, effective_at, scope) "
        "SELECT gen_random_uuid(), tenant_id, contact_id, 'whatsapp', 'opted_out', 'message', now(), 'all' "
        "FROM conversations WHERE id = $1",
        conversation_id,
    )
    answer = await send(api, ana, conversation_id)
    assert (answer.status, answer.problem) == (409, "conflict")
    assert "opted out" in answer.body["detail"]
    assert await api.rows("SELECT FROM messages WHERE tenant_id = $1", ana.id) == []


@pytest.mark.parametrize(
    ("provider", "kind", "content", "says"),
    [
        ("twilio", "whatsapp", "x" * 1601, "at most 1600"),
        ("meta", "whatsapp", "x" * 4097, "at most 4096"),
        ("kommo", "whatsapp", "x" * 4097, "at most 4096"),
        ("email", "email", "x" * 65_537, "at most 65536"),
        ("twilio", "sms", "ñ…" * 400, "at most 10 leave"),
        ("twilio", "whatsapp", " \u200b\n", "nothing to read"),
    ],
)
async def test_a_text_fits_its_channel(api: ApiStage, provider: str, kind: str, content: str, says: str) -> None:
    ana = await api.tenant()
    conversation_id = await add_conversation(api, ana, provider=provider, kind=kind)
    answer = await send(api, ana, conversation_id, content)
    assert (answer.status, answer.problem, answer.pointers) == (400, "invalid-input", ["#/content"])
    assert says in str(answer.body["errors"])
    assert (
        await send(api, ana, conversation_id, content.strip(" \n\u200b")[: len(content) // 2] or "Hi")
    ).status == 200
