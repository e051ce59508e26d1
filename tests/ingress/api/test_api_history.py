"""messagesHistory.*: messages found by what is known of them, and exported."""

import csv
import gzip
from datetime import UTC, datetime, timedelta
from uuid import UUID

import aiohttp
import orjson
import pytest

from ingress.api import exports
from ingress.api.procedures import messages_history
from shared.store.messages import history
from tests.support.api import ApiStage, Tenant
from tests.support.api_conversations import add_channel, add_conversation, say

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/messages-history"


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def found(api: ApiStage, whose: Tenant, **params: str) -> list[str]:
    answer = await api.get(f"{PATH}/search" if "text" in params else PATH, whose, params=params)
    assert answer.status == 200, answer.body
    return [one["content"] for one in answer.body["messages"]]


async def test_messages_are_found_by_what_is_known_of_them(api: ApiStage) -> None:
    ana = await api.tenant()
    channel = await add_channel(api, ana)
    one, other = await add_conversation(api, ana, channel), await add_conversation(api, ana)
    await say(api, ana, one, "Hola", "100% seguro")
    await say(api, ana, other, "hello_world")
    sent = await api.post(f"/v1/conversations/{one}/send", ana, {"content": "Buenos días"})
    contact = str(await api.pool.fetchval("SELECT contact_id FROM conversations WHERE id = $1", one))
    assert await found(api, ana) == ["Buenos días", "hello_world", "100% seguro", "Hola"]
    assert await found(api, ana, contactId=contact) == ["Buenos días", "100% seguro", "Hola"]
    assert await found(api, ana, contactId=contact, direction="inbound", limit="1") == ["100% seguro"]
    assert await found(api, ana, whatsappInstanceId=str(channel), direction="inbound") == ["100% seguro", "Hola"]
    assert await found(api, ana, status="queued") == ["Buenos días"]
    assert await found(api, ana, text="HOLA") == ["Hola"]
    assert await found(api, ana, text="0%") == ["100% seguro"]
    assert await found(api, ana, text="o_w") == ["hello_world"]
    assert await found(api, ana, text="o%o") == []
    assert await found(api, ana, text="hola", contactId=contact) == ["Hola"]
    message = (await api.get(f"{PATH}/{sent.body['message']['id']}", ana)).body["message"]
    assert (message["contactId"], message["whatsappInstanceId"], message["type"]) == (contact, str(channel), "text")


async def test_messages_are_found_by_time_and_page_by_page(api: ApiStage) -> None:
    ana = await api.tenant()
    talk = await add_conversation(api, ana)
    ids = await say(api, ana, talk, *(str(n) for n in range(6)))
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    for place, message_id in enumerate(ids):  # two of each moment
        moment = at + timedelta(minutes=place // 2)
        await api.pool.execute("UPDATE messages SET created_at = $2 WHERE id = $1", message_id, moment)
    newest = ["5", "4", "3", "2", "1", "0"]
    minute = [(at + timedelta(minutes=n)).isoformat() for n in range(3)]
    assert await found(api, ana, since=minute[1]) == newest[:4]
    assert await found(api, ana, until=minute[1]) == newest[4:]
    assert await found(api, ana, since=minute[1], until=minute[2]) == newest[2:4]
    contact = str(await api.pool.fetchval("SELECT contact_id FROM conversations WHERE id = $1", talk))
    for params in ({}, {"contactId": contact}):
        assert await pages(api, ana, limit="3", **params) == [newest[:3], newest[3:]]


async def pages(api: ApiStage, whose: Tenant, **params: str) -> list[list[str]]:
    all_pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await api.get(PATH, whose, params=params | cursor)).body
        all_pages.append([one["content"] for one in answer["messages"]])
        if answer["nextCursor"] is None:
            return all_pages
        cursor = {"cursor": answer["nextCursor"]}


def read_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page reads two messages."""
    monkeypatch.setattr(history, "MOST_READ", 2)
    for name in ("_ALL", "_APART", "_OF_CONVERSATION", "_OF_CONVERSATIONS"):
        few = [text.replace("1000", "2").replace("999", "1") for text in getattr(history, name)]
        monkeypatch.setattr(history, name, tuple(few))


async def test_a_page_reads_a_bounded_number_of_messages(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    read_few(monkeypatch)
    ana = await api.tenant()
    talk = await add_conversation(api, ana)
    await api.post(f"/v1/conversations/{talk}/send", ana, {"content": "ours"})
    await say(api, ana, talk, "1", "2", "3", "4")
    assert await pages(api, ana, direction="outbound") == [[], [], ["ours"]]
    monkeypatch.setattr(messages_history, "AT_ONCE", 2)
    lines = (await api.get(f"{PATH}/export.ndjson", ana, params={"direction": "outbound"})).body.splitlines()
    assert [orjson.loads(line)["content"] for line in lines] == ["ours"]


@pytest.mark.parametrize("conversations", [1, 2])
async def test_so_does_a_page_of_a_contacts_messages(
    api: ApiStage, monkeypatch: pytest.MonkeyPatch, conversations: int
) -> None:
    read_few(monkeypatch)
    ana = await api.tenant()
    talks = [await add_conversation(api, ana) for _ in range(conversations)]
    contact = await api.pool.fetchval("SELECT contact_id FROM conversations WHERE id = $1", talks[0])
    await api.pool.execute("UPDATE conversations SET contact_id = $1 WHERE tenant_id = $2", contact, ana.id)
    for n in range(1, 6):
        await say(api, ana, talks[n % conversations], str(n))
    assert await pages(api, ana, limit="1", contactId=str(contact)) == [["5"], ["4"], ["3"], ["2"], ["1"]]
    assert await pages(api, ana, direction="inbound", contactId=str(contact)) == [["5", "4"], ["3", "2"], ["1"]]
    assert await pages(api, ana, direction="outbound", contactId=str(contact)) == [[], [], []]


async def test_messages_of_a_status_that_few_have_are_found_among_them(
    api: ApiStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_few(monkeypatch)
    ana = await api.tenant()
    ids = await say(api, ana, await add_conversation(api, ana), *(str(n) for n in range(9)))
    fail = (
        "UPDATE messages SET direction = 'outbound', role = 'assistant', out_seq = $2, status = 'failed' WHERE id = $1"
    )
    for place in (0, 4, 5, 8):
        await api.pool.execute(fail, ids[place], place)
    assert await pages(api, ana, status="failed", limit="2") == [["8", "5"], ["4", "0"], []]
    assert await pages(api, ana, status="failed", direction="inbound") == [[], [], []]


async def test_a_page_holds_a_bounded_number_of_bytes(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_ALL", "_OF_CONVERSATION"):  # "12345678" counts 10 bytes with its metadata, {}
        page, read_up_to = getattr(history, name)
        few = page.replace(f"bytes <= {history.MOST_BYTES}", "bytes <= 30")
        monkeypatch.setattr(history, name, (few, read_up_to))
    ana = await api.tenant()
    await say(api, ana, await add_conversation(api, ana), *["12345678"] * 4, "a" * 100)
    expected = [["a" * 100], ["12345678"] * 3, ["12345678"]]  # newest first; one that is larger is a page
    contact = str(await api.pool.fetchval("SELECT contact_id FROM conversations WHERE tenant_id = $1", ana.id))
    for params in ({}, {"contactId": contact}):
        assert await pages(api, ana, limit="5", **params) == expected
        lines = (await api.get(f"{PATH}/export.ndjson", ana, params=params)).body.splitlines()
        assert [orjson.loads(line)["content"] for line in lines] == ["a" * 100, *["12345678"] * 4]


@pytest.mark.parametrize("at_once", [1, 2, 1000])
async def test_messages_are_exported(api: ApiStage, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(messages_history, "AT_ONCE", at_once)
    ana = await api.tenant("messagesHistory:read")
    talk = await add_conversation(api, ana)
    await say(api, ana, talk, "=1+1", 'a "b", c', "tres\nlíneas")
    contents = ["tres\nlíneas", 'a "b", c', "=1+1"]
    answer = await api.get(f"{PATH}/export.csv", ana)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert "messages-history.csv" in answer.headers["Content-Disposition"]
    assert answer.headers["RateLimit"]
    rows = list(csv.DictReader(answer.body.splitlines(keepends=True)))
    assert [row["content"] for row in rows] == [*contents[:2], "'=1+1"]
    assert {row["chatId"][:2] for row in rows} == {"'+"}
    lines = (await api.get(f"{PATH}/export.ndjson", ana)).body.splitlines()
    assert [orjson.loads(line)["content"] for line in lines] == contents
    headers = {"Authorization": f"Bearer {ana.key}", "Accept-Encoding": "gzip"}
    url = f"http://127.0.0.1:{api.port}{PATH}/export.ndjson"
    async with (
        aiohttp.ClientSession(auto_decompress=False) as client,
        client.get(url, headers=headers) as packed,
    ):
        assert len(gzip.decompress(await packed.read()).splitlines()) == 3


async def test_an_export_is_refused_as_any_other_call(api: ApiStage) -> None:
    ana, bob = await api.tenant("contacts:read"), await api.tenant()
    at = f"{PATH}/export.csv"
    assert (await api.get(at, None)).problem == "unauthenticated"
    assert (await api.get(at, ana)).problem == "forbidden"
    assert (await api.get(at, bob, params={"direction": "up"})).pointers == ["#/direction"]
    assert (await api.get(at, bob, params={"tenantId": str(ana.id)})).problem == "not-found"
    assert (await api.post(at, bob)).problem == "method-not-allowed"
    empty = await api.get(at, bob)
    assert (empty.status, len(empty.body.splitlines())) == (200, 1), "the header alone"


async def test_an_export_that_breaks_is_not_taken_for_the_whole(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    ana = await api.tenant()
    talk = await add_conversation(api, ana)
    await say(api, ana, talk, "one", "two")
    monkeypatch.setattr(messages_history, "AT_ONCE", 1)
    monkeypatch.setattr(exports, "AT_ONCE", 1)
    page, asked = history.page, 0

    async def breaks(*given: object) -> object:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise OSError("the database is gone")
        return await page(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(history, "page", breaks)
    with pytest.raises(aiohttp.ClientError):
        await api.get(f"{PATH}/export.ndjson", ana)


async def test_another_tenants_messages_are_not_exported(api: ApiStage) -> None:
    ana, bob = await api.tenant(), await api.tenant()
    for whose in (ana, bob):
        await say(api, whose, UUID(str(await add_conversation(api, whose))), f"of {whose.id}")
    assert await found(api, ana) == [f"of {ana.id}"]
    lines = (await api.get(f"{PATH}/export.ndjson", bob)).body.splitlines()
    assert [orjson.loads(line)["content"] for line in lines] == [f"of {bob.id}"]
