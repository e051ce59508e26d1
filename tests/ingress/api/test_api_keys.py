"""Keys: what opens the API, for how long, how often, and what a guesser gets."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from structlog.testing import capture_logs

from ingress.api import caller
from shared.actions import api_keys as actions
from shared.actions import tenants
from shared.database import Connection
from shared.domain import api_keys
from shared.settings import Settings
from shared.store import api_keys as store
from tests.support.api import ApiStage, serving

SHOP = {"name": "Web shop", "scopes": ["contacts:read"]}


def hence(**later: float) -> str:
    return (datetime.now(UTC) + timedelta(**later)).isoformat()


async def test_a_key_is_shown_once_and_opens_what_its_scopes_say(api: ApiStage) -> None:
    ana = await api.tenant()
    made = (await api.post("/v1/api-keys", ana, SHOP)).body
    key = made["key"]
    assert key.startswith(made["apiKey"]["prefix"])
    shop = ana.with_key(key)
    assert (await api.get("/v1/contacts", shop)).status == 200
    forbidden = await api.post("/v1/contacts", shop, {"phoneNumber": "+14155238886"})
    assert (forbidden.status, forbidden.problem) == (403, "forbidden")
    assert "contacts:write" in forbidden.body["detail"]
    listed = (await api.get("/v1/api-keys", ana)).body["apiKeys"]
    assert [one["name"] for one in listed] == ["Web shop", "test"]
    everything = str(listed) + str(await api.rows("SELECT * FROM api_keys"))
    assert key not in everything
    assert key[20:] not in everything


async def test_a_look_up_reads_one_row_of_many_with_the_same_prefix(api: ApiStage) -> None:
    """A tenant's SQL session may write any number of them, with any hash."""
    ana = await api.tenant()
    many = """
        INSERT INTO api_keys (tenant_id, id, name, prefix, hash, scopes)
        SELECT tenant_id, gen_random_uuid(), 'x', prefix,
            CASE n % 2 WHEN 0 THEN hash ELSE sha256(n::text::bytea) END, scopes
        FROM api_keys, generate_series(1, 2000) n WHERE id = $1
    """
    await api.pool.execute(many, ana.key_id)
    await api.pool.execute("ANALYZE api_keys")
    digest, prefix = api_keys.digest_of(ana.key), api_keys.prefix_of(ana.key)
    async with api.pool.acquire() as connection:
        found = await store.find(connection, prefix, digest)
        assert found is not None
        assert (found.tenant_id, found.hash) == (ana.id, digest)
        assert await store.find(connection, prefix, b"x" * 32) is None
        plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {store._FIND}", prefix, digest)
    read = [node.get("Actual Rows", 0) for node in nodes(plan[0]["Plan"])]
    assert max(read) <= 2, plan
    assert (await api.get("/v1/contacts", ana)).status == 200


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for inner in plan.get("Plans", []) for node in nodes(inner))]


async def test_a_look_up_does_not_wait_for_a_key_that_a_session_has_locked(api: ApiStage) -> None:
    ana = await api.tenant()
    async with api.pool.acquire() as session, session.transaction():
        await session.execute("SELECT FROM api_keys WHERE id = $1 FOR UPDATE", ana.key_id)
        async with api.pool.acquire() as connection, asyncio.timeout(1):
            found = await store.find(connection, api_keys.prefix_of(ana.key), api_keys.digest_of(ana.key))
            assert found is not None
            await store.note_use(connection, found)
    (row,) = await api.rows("SELECT last_used_at FROM api_keys WHERE id = $1", ana.key_id)
    assert row["last_used_at"] is None
    await store.note_use(api.pool, found)
    (row,) = await api.rows("SELECT last_used_at FROM api_keys WHERE id = $1", ana.key_id)
    assert row["last_used_at"] is not None


async def test_a_revoked_key_opens_nothing(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "REMEMBERED", 0.0)
    ana = await api.tenant()
    other = await api.key(ana, "contacts:read")
    assert (await api.get("/v1/contacts", other)).status == 200
    assert (await api.post(f"/v1/api-keys/{other.key_id}/revoke", ana)).status == 200
    refused = await api.get("/v1/contacts", other)
    assert (refused.status, refused.problem) == (401, "unauthenticated")
    assert (await api.post(f"/v1/api-keys/{other.key_id}/revoke", ana)).problem == "not-found"
    events = await api.rows("SELECT name FROM events WHERE tenant_id = $1 ORDER BY seq", ana.id)
    assert [one["name"] for one in events][-1] == "api_key.revoked"


async def test_an_expired_key_opens_nothing_from_its_moment_on(api: ApiStage) -> None:
    ana = await api.tenant()
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    key = (await api.post("/v1/api-keys", ana, SHOP | {"expiresAt": soon})).body
    shop = ana.with_key(key["key"])
    assert (await api.get("/v1/contacts", shop)).status == 200
    await api.pool.execute("UPDATE api_keys SET expires_at = now() WHERE id = $1::text::uuid", key["apiKey"]["id"])
    other = await api.key(ana, "contacts:read")
    await api.pool.execute("UPDATE api_keys SET expires_at = now() WHERE id = $1", other.key_id)
    assert "expired" in (await api.get("/v1/contacts", other)).body["detail"]
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    assert (await api.post("/v1/api-keys", ana, SHOP | {"expiresAt": past})).pointers == ["#/expiresAt"]
    naive = "2099-01-01T00:00:00"
    assert (await api.post("/v1/api-keys", ana, SHOP | {"expiresAt": naive})).pointers == ["#/expiresAt"]


async def test_no_key_makes_one_that_may_do_more(api: ApiStage) -> None:
    ana = await api.tenant("apiKeys:write", "contacts:read")
    assert (await api.post("/v1/api-keys", ana, SHOP)).status == 201
    for more in (["*"], ["contacts:read", "contacts:write"]):
        refused = await api.post("/v1/api-keys", ana, SHOP | {"scopes": more})
        assert (refused.status, refused.problem, refused.pointers) == (403, "forbidden", ["#/scopes"])
    for unknown in ("contacts:*", "tenants:write", "x"):
        everything = await api.tenant()
        wrong = await api.post("/v1/api-keys", everything, SHOP | {"scopes": ["contacts:read", unknown]})
        assert (wrong.status, wrong.pointers) == (400, ["#/scopes/1"])


async def test_no_key_makes_one_that_outlives_it(api: ApiStage) -> None:
    ana = await api.tenant()
    made = (await api.post("/v1/api-keys", ana, SHOP | {"scopes": ["*"], "expiresAt": hence(days=1)})).body
    short = ana.with_key(made["key"])
    ends = made["apiKey"]["expiresAt"]
    assert (await api.post("/v1/api-keys", short, SHOP)).body["apiKey"]["expiresAt"] == ends
    refused = await api.post("/v1/api-keys", short, SHOP | {"expiresAt": hence(days=2)})
    assert (refused.status, refused.problem, refused.pointers) == (403, "forbidden", ["#/expiresAt"])
    sooner = await api.post("/v1/api-keys", short, SHOP | {"expiresAt": hence(hours=1)})
    assert sooner.status == 201
    at = f"/v1/api-keys/{sooner.body['apiKey']['id']}"
    assert (await api.get(at, ana)).body == {"apiKey": sooner.body["apiKey"]}
    assert (await api.post(f"{at}/revoke", ana)).status == 200
    assert (await api.get(at, ana)).problem == "not-found"


async def test_a_tenant_has_a_bounded_number_of_keys(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MOST_KEYS", 3)
    ana = await api.tenant()
    answers = await asyncio.gather(*(api.post("/v1/api-keys", ana, SHOP) for _ in range(4)))
    assert sorted(one.status for one in answers) == [201, 201, 409, 409]
    made = next(one.body["apiKey"] for one in answers if one.status == 201)
    assert (await api.post(f"/v1/api-keys/{made['id']}/revoke", ana)).status == 200
    assert (await api.post("/v1/api-keys", ana, SHOP)).status == 201
    await api.pool.execute("UPDATE api_keys SET expires_at = now() WHERE name = 'Web shop'")
    assert (await api.post("/v1/api-keys", ana, SHOP)).status == 201, "one that has expired does not count"
    assert (await api.post("/v1/api-keys", await api.tenant(), SHOP)).status == 201, "nor does another tenant's"


async def test_two_tenants_that_come_at_once_have_two_names(api: ApiStage) -> None:
    async with api.pool.acquire() as one, api.pool.acquire() as other:
        async with one.transaction():
            first = await tenants.create(one, "Tienda")
            second = asyncio.create_task(create(other, "Tienda"))
            done, _ = await asyncio.wait([second], timeout=0.2)
            assert not done, "it waits until the first one has committed"
        with pytest.raises(tenants.NameTaken) as taken:
            await second
    assert taken.value.tenant_id == first.id
    operator = await api.operator()
    assert (await api.get(f"/v1/tenants/{first.id}", operator)).body["tenant"]["name"] == "Tienda"
    assert (await api.get(f"/v1/tenants/{uuid4()}", operator)).problem == "not-found"


async def create(connection: Connection, name: str) -> None:
    async with connection.transaction():
        await tenants.create(connection, name)


async def test_an_operator_makes_a_tenant_and_its_first_key(api: ApiStage) -> None:
    operator = await api.operator()
    made = (await api.post("/v1/tenants", operator, {"name": "Tienda"})).body["tenant"]
    assert (await api.post("/v1/tenants", operator, {"name": "Tienda"})).problem == "conflict"
    assert (await api.post("/v1/api-keys", operator, SHOP)).pointers == ["#/tenantId"]
    key = (await api.post("/v1/api-keys", operator, SHOP | {"tenantId": made["id"]})).body["key"]
    shop = operator.with_key(key)
    assert (await api.get("/v1/contacts", shop)).status == 200
    assert (await api.get("/v1/tenants", shop)).problem == "forbidden"
    assert [one["name"] for one in (await api.get("/v1/tenants", operator)).body["tenants"]] == ["Tienda"]
    assert (await api.get("/v1/contacts", operator, params={"tenantId": made["id"]})).status == 200
    nobody = await api.get("/v1/contacts", operator, params={"tenantId": str(operator.key_id)})
    assert (nobody.problem, nobody.pointers) == ("not-found", ["#/tenantId"])


async def test_the_last_use_is_noted_to_the_minute(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "REMEMBERED", 0.0)
    ana = await api.tenant()
    used = "SELECT last_used_at FROM api_keys"
    await api.get("/v1/contacts", ana)
    async with asyncio.timeout(10):
        while (first := await api.pool.fetchval(used)) is None:  # noqa: ASYNC110 - no call waits for it
            await asyncio.sleep(0.01)
    for _ in range(3):
        await api.get("/v1/contacts", ana)
    assert await api.pool.fetchval(used) == first
    changed = await api.pool.fetchval("SELECT updated_at = created_at FROM api_keys")
    assert changed, "that a key was used is no change of it"


async def test_a_mistyped_key_costs_no_query(api: ApiStage) -> None:
    ana = await api.tenant()
    typo = ana.key[:-1] + ("a" if ana.key[-1] != "a" else "b")
    before = await refused(api, "mistyped")
    answer = await api.get("/v1/contacts", ana.with_key(typo))
    assert (answer.status, answer.problem) == (401, "unauthenticated")
    assert await refused(api, "mistyped") == before + 1
    assert (await api.get("/v1/contacts", ana.with_key(api_keys.new_key()))).problem == "unauthenticated"
    assert (await api.get("/v1/contacts", None, Authorization=f"Basic {ana.key}")).problem == "unauthenticated"


async def test_a_guesser_is_stopped_and_costs_no_other_client(settings: Settings) -> None:
    async with serving(settings) as api:
        ana = await api.tenant()
        assert (await api.get("/v1/contacts", ana, X_Forwarded_For="192.0.2.1")).status == 200
        before = {reason: await refused(api, reason) for reason in ("unknown", "guessing")}
        guesses = [api_keys.new_key() for _ in range(caller.GUESSES + 1)]
        with capture_logs() as lines:
            for guess in guesses[1:]:
                wrong = await api.get("/v1/contacts", ana.with_key(guess), X_Forwarded_For="192.0.2.1")
                assert (wrong.status, wrong.problem) == (401, "unauthenticated")
        noted = [line for line in lines if line["event"] == "key refused"]
        assert [(line["reason"], line["client"]) for line in noted] == [("unknown", "192.0.2.1")] * caller.GUESSES
        assert not any(guess[4:] in str(lines) for guess in guesses), "the log holds no key"
        stopped = await api.get("/v1/contacts", ana.with_key(guesses[0]), X_Forwarded_For="192.0.2.1")
        assert (stopped.status, stopped.problem) == (429, "too-many-requests")
        assert 0 < int(stopped.headers["Retry-After"]) <= caller.GUESS_WINDOW
        assert await refused(api, "unknown") == before["unknown"] + caller.GUESSES
        assert await refused(api, "guessing") == before["guessing"] + 1
        in_use = await api.get("/v1/contacts", ana, X_Forwarded_For="192.0.2.1")
        assert in_use.status == 200, "a key in use goes on: one address may be a whole office's"
        bob = await api.tenant()
        assert (await api.get("/v1/contacts", bob, X_Forwarded_For="192.0.2.2")).status == 200


async def test_a_guesser_has_one_turn_for_all_of_its_ipv6_addresses(settings: Settings) -> None:
    async with serving(settings) as api:
        ana = await api.tenant()
        statuses = [
            (await api.get("/v1/contacts", ana.with_key(api_keys.new_key()), X_Forwarded_For=f"2001:db8::{n:x}")).status
            for n in range(1, caller.GUESSES + 2)
        ]
        assert statuses == [401] * caller.GUESSES + [429]
        assert (await api.get("/v1/contacts", ana, X_Forwarded_For="2001:db8:0:1::1")).status == 200


async def test_a_client_that_obeys_the_headers_never_gets_a_429(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"api_rate_limit": 5, "api_rate_window": 1.0})) as api:
        ana = await api.tenant()
        statuses, left = [], 1
        for _ in range(20):
            answer = await api.get("/v1/contacts", ana)
            statuses.append(answer.status)
            assert answer.headers["RateLimit-Policy"] == '"default";q=5;w=1'
            left, seconds = (int(part.partition("=")[2]) for part in answer.headers["RateLimit"].split(";")[1:])
            if left == 0:
                await asyncio.sleep(seconds)
        assert set(statuses) == {200}
        greedy = [await api.get("/v1/contacts", ana) for _ in range(10)]
        over = [one for one in greedy if one.status == 429]
        assert over
        assert over[0].problem == "too-many-requests"
        assert int(over[0].headers["Retry-After"]) >= 1
        bob = await api.tenant()
        assert (await api.get("/v1/contacts", bob)).status == 200


async def refused(api: ApiStage, reason: str) -> float:
    async with aiohttp.ClientSession() as client, client.get(f"{api.health}/metrics") as answer:
        for line in (await answer.text()).splitlines():
            if line.startswith(f'palomar_api_keys_refused_total{{reason="{reason}"}}'):
                return float(line.rpartition(" ")[2])
    return 0.0
