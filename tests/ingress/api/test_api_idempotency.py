"""Idempotency-Key beyond what every procedure is tried for: what is kept, for whom, and for how long."""

import asyncio
from typing import Any

import pytest

from ingress.api.idempotency import LONGEST_KEY, key_of_one
from shared.store import idempotency
from tests.support.api import ApiStage, Tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANA = {"phoneNumber": "+14155238886"}


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def create(api: ApiStage, whose: Tenant, key: str, **given: Any) -> Any:
    return await api.post("/v1/contacts", whose, ANA | given, Idempotency_Key=key)


async def test_each_tenant_has_keys_of_its_own(api: ApiStage) -> None:
    ana, bob = await api.tenant(), await api.tenant()
    first, second = await create(api, ana, "k"), await create(api, bob, "k")
    assert (first.status, second.status) == (201, 201)
    assert first.body["contact"]["id"] != second.body["contact"]["id"]


async def test_a_refused_effect_is_tried_anew(api: ApiStage) -> None:
    ana = await api.tenant()
    other = (await api.post("/v1/contacts", ana, ANA)).body["contact"]
    assert (await create(api, ana, "k")).problem == "conflict"
    await api.delete(f"/v1/contacts/{other['id']}", ana)
    answer = await create(api, ana, "k")
    assert answer.status == 201
    assert "Idempotent-Replayed" not in answer.headers


async def test_left_out_and_null_are_two_requests(api: ApiStage) -> None:
    ana = await api.tenant()
    at = f"/v1/contacts/{(await create(api, ana, 'k', name='Ana')).body['contact']['id']}"
    assert (await api.patch(at, ana, {}, Idempotency_Key="u")).body["contact"]["name"] == "Ana"
    assert (await api.patch(at, ana, {"name": None}, Idempotency_Key="u")).problem == "idempotency-mismatch"
    assert (await api.patch(at, ana, {"tenantId": str(ana.id)}, Idempotency_Key="u")).headers["Idempotent-Replayed"]


async def test_a_twin_of_a_request_that_fails_has_the_effect(api: ApiStage) -> None:
    """The first one holds the key until its rollback; the second one waits, and is then the first."""
    ana = await api.tenant()
    async with api.pool.acquire() as connection:
        first = connection.transaction()
        await first.start()
        owner = idempotency.Owner(ana.id or ana.key_id)
        assert await idempotency.claim(connection, owner, "k", b"") is None
        twin = asyncio.create_task(create(api, ana, "k"))
        await asyncio.sleep(0.3)
        assert not twin.done()
        await first.rollback()
    answer = await twin
    assert answer.status == 201
    assert "Idempotent-Replayed" not in answer.headers


async def test_the_answer_is_gone_once_its_person_is_erased(api: ApiStage) -> None:
    ana = await api.tenant()
    await create(api, ana, "k")
    await api.pool.execute("UPDATE idempotency_keys SET response = '{}' WHERE tenant_id = $1", ana.id)
    answer = await create(api, ana, "k")
    assert (answer.status, answer.problem) == (409, "conflict")
    assert "erased" in answer.body["detail"]


@pytest.mark.parametrize("key", ["", "x" * (LONGEST_KEY + 1), "ñ", "a\tb"])
async def test_a_key_that_cannot_be_kept_is_refused(api: ApiStage, key: str) -> None:
    answer = await create(api, await api.tenant(), key)
    assert (answer.status, answer.pointers) == (400, ["#/Idempotency-Key"])


async def test_keys_are_forgotten_after_their_days(api: ApiStage) -> None:
    ana, operator = await api.tenant(), await api.operator()
    await api.pool.execute("DELETE FROM idempotency_keys")
    await create(api, ana, "old")
    await api.post("/v1/tenants", operator, {"name": "Old"}, Idempotency_Key="old")
    for table in ("idempotency_keys", "operator_idempotency_keys"):
        await api.pool.execute(f"UPDATE {table} SET created_at = now() - interval '8 days'")
    await create(api, ana, "new", phoneNumber="+34600000001")
    assert [await forgotten(api, 1), await forgotten(api, 10), await forgotten(api, 10)] == [1, 1, 0]
    assert [row["key"] for row in await api.rows("SELECT key FROM idempotency_keys")] == ["new"]


async def forgotten(api: ApiStage, limit: int) -> int:
    async with api.pool.acquire() as connection:
        return await idempotency.forget(connection, 7, limit)


async def test_each_call_of_a_batch_has_a_key_of_its_own() -> None:
    calls = {key_of_one(key, path, place) for key in ("k", "x" * 255) for path in ("a.b", "c.d") for place in (0, 1)}
    assert len(calls) == 8
    assert max(map(len, calls)) <= LONGEST_KEY
