"""Procedures that ask a provider: no transaction is open meanwhile, and a repeated request asks once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ingress.api.execute import CALLS_OUT
from shared.settings import Settings
from tests.support.api import ApiStage, Tenant, serving

ACCOUNT = "AC" + "0" * 32
LOGIN = {"accountSid": ACCOUNT, "authToken": "first token"}
OPEN = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"


class Provider:
    """A Twilio that answers about an account once the test lets it."""

    def __init__(self) -> None:
        self.asked = 0
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        self.was_asked.set()
        await self.may_answer.wait()
        return web.json_response({"sid": ACCOUNT, "status": "active"})


@pytest.fixture
def provider() -> Iterator[Provider]:
    played = Provider()
    yield played
    played.may_answer.set()


@pytest.fixture
async def api(settings: Settings, provider: Provider) -> AsyncIterator[ApiStage]:
    app = web.Application()
    app.router.add_get("/2010-04-01/Accounts/{account}.json", provider.answer)
    async with TestServer(app) as server:
        update = {"twilio_api_url": str(server.make_url("")), "api_patience": 2.0}
        settings = settings.model_copy(update=update)
        async with serving(settings) as stage:
            yield stage


async def channel(api: ApiStage, whose: Tenant) -> str:
    given = {"provider": "twilio", "kind": "sms", "address": "+14155238886", "credentials": LOGIN}
    answer = await api.post("/v1/channels", whose, given)
    assert answer.status == 201, answer.body
    return str(answer.body["channel"]["id"])


async def trials(api: ApiStage) -> list[Any]:
    return await api.rows("SELECT detail FROM events WHERE name = 'channel.tested'")


async def test_no_transaction_is_open_while_the_provider_answers(api: ApiStage, provider: Provider) -> None:
    ana = await api.tenant()
    at = f"/v1/channels/{await channel(api, ana)}/test"
    trying = asyncio.create_task(api.post(at, ana, {}, Idempotency_Key="1"))
    await provider.was_asked.wait()
    assert await api.rows(OPEN) == []
    provider.may_answer.set()
    assert (await trying).body["works"] is True
    assert [one["detail"] for one in await trials(api)] == [{"works": True}]


async def test_a_repeated_request_does_not_ask_the_provider_again(api: ApiStage, provider: Provider) -> None:
    ana = await api.tenant()
    at = f"/v1/channels/{await channel(api, ana)}/test"
    provider.may_answer.set()
    twins = await asyncio.gather(*(api.post(at, ana, {}, Idempotency_Key="1") for _ in range(3)))
    assert sorted(one.headers.get("Idempotent-Replayed", "") for one in twins) == ["", "true", "true"]
    asked = provider.asked
    again = await api.post(at, ana, {}, Idempotency_Key="1")
    assert (again.headers["Idempotent-Replayed"], again.body) == ("true", twins[0].body)
    assert provider.asked == asked
    other = await api.post("/v1/api-keys", ana, {"name": "x", "scopes": ["contacts:read"]}, Idempotency_Key="1")
    assert other.problem == "idempotency-mismatch"
    assert len(await trials(api)) == 1


async def test_a_tenant_has_a_bounded_number_of_calls_that_wait_for_a_provider(
    api: ApiStage, provider: Provider
) -> None:
    ana, eva = await api.tenant(), await api.tenant()
    at = f"/v1/channels/{await channel(api, ana)}/test"
    waiting = [asyncio.create_task(api.post(at, ana, {})) for _ in range(CALLS_OUT + 1)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    (refused,) = [task.result() for task in done]
    assert (refused.status, refused.problem) == (503, "unavailable")
    assert "calls that wait for a provider under way, as many as it may" in refused.body["detail"]
    assert provider.asked == CALLS_OUT
    others = asyncio.create_task(api.post(f"/v1/channels/{await channel(api, eva)}/test", eva, {}))
    provider.may_answer.set()
    assert (await others).status == 200
    await asyncio.gather(*waiting)


async def test_what_the_provider_said_of_former_credentials_is_not_recorded(api: ApiStage, provider: Provider) -> None:
    ana = await api.tenant()
    channel_id = await channel(api, ana)
    await api.pool.execute("UPDATE channels SET status = 'stopped', status_reason = 'credentials'")
    trying = asyncio.create_task(api.post(f"/v1/channels/{channel_id}/test", ana, {}, Idempotency_Key="1"))
    await provider.was_asked.wait()
    rotated = await api.post(
        f"/v1/channels/{channel_id}/rotate-secrets", ana, {"credentials": LOGIN | {"authToken": "second token"}}
    )
    assert rotated.status == 200, rotated.body
    provider.may_answer.set()
    refused = await trying
    assert (refused.status, refused.problem) == (409, "conflict")
    assert await trials(api) == []
    (row,) = await api.rows("SELECT status FROM channels WHERE id = $1", UUID(channel_id))
    assert row["status"] == "stopped"
    assert (await api.post(f"/v1/channels/{channel_id}/test", ana, {}, Idempotency_Key="1")).body["works"] is True


async def test_no_provider_is_asked_for_a_tenant_that_is_not_there(api: ApiStage, provider: Provider) -> None:
    channel_id = await channel(api, await api.tenant())
    operator = await api.operator()
    for tenant_id in (uuid4(), (await api.tenant()).id):
        refused = await api.post(f"/v1/channels/{channel_id}/test", operator, {"tenantId": str(tenant_id)})
        assert refused.problem in ("not-found", "forbidden")
    assert provider.asked == 0
