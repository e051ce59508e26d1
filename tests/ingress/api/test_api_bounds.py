"""What one caller can't take from all others: the event loop, the connections, the rate limit of what can't be read."""

import asyncio
import time
from typing import Any

import pytest

from ingress.api.input_bounds import MOST_MEMBERS, MOST_PARTS
from shared.actions import dead_letters
from shared.queue import depths
from shared.settings import Settings
from shared.store import contact_records
from tests.ingress.api.test_api_contacts import ANA, created
from tests.support.api import Answer, ApiStage, Tenant, serving
from tests.support.api_conversations import add_channel

OPEN = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
WRONG_RULE = {"patterns": [""] * 100, "answer": ""}


async def test_a_vast_input_is_refused_before_it_is_described(api: ApiStage) -> None:
    ana = await api.tenant()
    channel = f"/v1/channels/{await add_channel(api, ana)}"
    vast: list[dict[str, Any]] = [
        {"settings": {"reply": {"rules": [WRONG_RULE] * 500}}},
        {"settings": {"reply": {f"x{n}": 1 for n in range(MOST_MEMBERS + 1)}}},
        {f"x{n}": 1 for n in range(50_000)},
    ]
    for given in vast:
        began = time.process_time()
        answer = await api.patch(channel, ana, given)
        assert time.process_time() - began < 0.2, "its client's JSON is made here too"
        assert (answer.status, answer.pointers) == (400, ["#"])
        assert str(MOST_PARTS) in answer.body["detail"]


async def test_wrong_and_large_settings_are_refused(api: ApiStage) -> None:
    ana = await api.tenant()
    channel = f"/v1/channels/{await add_channel(api, ana)}"
    wrong_rules = {"rules": [{"patterns": ["x", ""], "answer": ""}] * 500}
    wrong = await api.patch(channel, ana, {"settings": {"rate": 0, "reply": wrong_rules}})
    first = "#/settings/reply/rules/0"
    assert wrong.pointers == [f"{first}/patterns/1", f"{first}/answer", "#/settings/rate"], "the first wrong rule alone"
    rules = [{"patterns": ["x"], "answer": "y" * 1500}] * 200
    large = await api.patch(channel, ana, {"settings": {"reply": {"rules": rules}}})
    assert (large.status, large.pointers) == (400, ["#/settings"])
    assert (await api.patch(channel, ana, {"settings": {"reply": {"rules": rules[:150]}}})).status == 200


@pytest.mark.parametrize(
    ("method", "path", "data", "headers", "status"),
    [
        ("POST", "/v1/contacts", b"{", {}, 400),
        ("POST", "/v1/contacts", b"{}", {"Content_Type": "text/plain"}, 415),
        ("POST", "/v1/contacts", b"x" * 2000, {}, 413),
        ("POST", "/trpc/contacts.create", b"{", {}, 400),
        ("GET", "/trpc/contacts.nothing", None, {}, 404),
        ("GET", "/trpc/contacts.create", None, {}, 405),
    ],
)
async def test_a_request_counts_however_it_ends(
    settings: Settings, method: str, path: str, data: bytes | None, headers: dict[str, Any], status: int
) -> None:
    small = settings.model_copy(update={"api_rate_limit": 3, "api_rate_window": 3600.0, "api_body_limit": 1024})
    async with serving(small) as api:
        ana = await api.tenant()
        answers = [(await api.request(method, path, ana, data=data, **headers)).status for _ in range(4)]
        assert answers == [status, status, status, 429]


async def test_each_call_of_a_batch_counts_once(settings: Settings) -> None:
    small = settings.model_copy(update={"api_rate_limit": 4, "api_rate_window": 3600.0})
    async with serving(small) as api:
        ana = await api.tenant()
        batch = await api.get("/trpc/contacts.list,contacts.nothing,contacts.list?batch=1", ana)
        assert [("error" in one) for one in batch.body] == [False, True, False]
        assert "r=1" in batch.headers["RateLimit"]
        batch = await api.get("/trpc/contacts.list,contacts.list?batch=1", ana)
        assert batch.status == 207
        assert (await api.get("/v1/contacts", ana)).status == 429


async def test_two_tenants_whose_calls_wait_leave_connections_to_a_third(settings: Settings) -> None:
    few = settings.model_copy(update={"api_pool": 4, "api_lock_wait": 2.0, "api_patience": 1.0})
    async with serving(few) as api:
        ana, eva, bob = await api.tenant(), await api.tenant(), await api.tenant()
        waiting: list[asyncio.Task[Any]] = []
        async with api.pool.acquire() as session, session.transaction():
            for whose in (ana, eva):
                at = f"/v1/contacts/{(await created(api, whose, ANA))['id']}"
                await session.execute("SELECT FROM contacts WHERE tenant_id = $1 FOR UPDATE", whose.id)
                waiting += [asyncio.create_task(api.patch(at, whose, {"name": "x"})) for _ in range(3)]
            await asyncio.sleep(0.3)
            assert (await api.get("/v1/contacts", bob)).status == 200
        assert {(await one).status for one in waiting} <= {200, 503}


async def test_a_statement_that_takes_too_long_is_stopped(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(settings.model_copy(update={"api_statement_timeout": 0.2})) as api:
        ana = await api.tenant()

        async def slow(connection: Any, *_: object, **__: object) -> None:
            await connection.execute("SELECT pg_sleep(20)")

        monkeypatch.setattr(contact_records, "page", slow)
        answer = await api.get("/v1/contacts", ana)
        assert (answer.status, answer.problem) == (503, "unavailable")
        assert "Ask for less" in answer.body["detail"]


async def test_keys_are_looked_up_while_the_broker_does_not_answer_operators(
    api: ApiStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = await api.operator()
    may_answer = asyncio.Event()

    async def late(*_: object) -> None:
        await may_answer.wait()
        raise depths.NotDeclared

    monkeypatch.setattr(depths, "ask", late)
    waiting = [asyncio.create_task(api.get("/v1/system/status", operator)) for _ in range(6)]
    await asyncio.sleep(0.3)
    async with asyncio.timeout(3):
        assert (await api.get("/v1/contacts", await api.tenant())).status == 200
        assert (await api.get("/v1/tenants", operator)).status == 200
    assert await api.rows(OPEN) == []
    may_answer.set()
    assert {(await one).body["broker"] for one in waiting} == {"away"}


async def discarded(api: ApiStage, operator: Tenant) -> Answer:
    given = {"queue": "media", "ids": ["letter-first"]}
    return await api.post("/v1/system/discard-dead-letters", operator, given, Idempotency_Key="1")


async def test_no_transaction_is_open_while_dead_letters_are_settled(
    api: ApiStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = await api.operator()
    seen: list[list[Any]] = []

    async def settle(*_: object) -> int:
        seen.append(await api.rows(OPEN))
        return 1

    monkeypatch.setattr(dead_letters, "settle", settle)
    first, again = await discarded(api, operator), await discarded(api, operator)
    assert (first.body, again.body) == ({"count": 1}, {"count": 1})
    assert again.headers["Idempotent-Replayed"] == "true"
    assert seen == [[]], "a repeated request settles nothing"
    unnamed = await api.post("/v1/system/discard-dead-letters", operator, {"queue": "media"})
    assert (unnamed.status, unnamed.pointers) == (400, ["#/ids"])
