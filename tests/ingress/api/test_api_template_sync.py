"""messageTemplates.sync: what a provider lists becomes rows, and what it lists no longer is gone."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from ops.sandbox.meta_forms import ACCESS_TOKEN, ACCOUNT, APP_SECRET, PHONE_NUMBER_ID
from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN
from shared.settings import Settings
from tests.providers.test_template_lists import of_meta, of_twilio
from tests.support.api import Answer, ApiStage, Tenant, serving
from tests.support.api_conversations import add_channel, add_conversation
from tests.support.sandbox_stage import Stage, playing

CHANNELS: dict[str, dict[str, Any]] = {
    "meta": {
        "provider": "meta", "address": PHONE_NUMBER_ID,
        "credentials": {"businessId": ACCOUNT, "accessToken": ACCESS_TOKEN, "appSecret": APP_SECRET},
    },
    "twilio": {
        "provider": "twilio", "kind": "whatsapp", "address": "+14155238886",
        "credentials": {"accountSid": ACCOUNT_SID, "authToken": AUTH_TOKEN},
    },
}  # fmt: skip
ACCOUNTS = {"meta": ACCOUNT, "twilio": ACCOUNT_SID}
MADE = {"meta": of_meta, "twilio": of_twilio}


class Synced(NamedTuple):
    listed: int
    created: int
    updated: int
    gone: int


class Both(NamedTuple):
    api: ApiStage
    at: Stage


@pytest.fixture
async def both(settings: Settings) -> AsyncIterator[Both]:
    """The API, and the sandbox that plays its providers."""
    async with playing() as at:
        settings = settings.model_copy(
            update={"twilio_api_url": at.base_url, "meta_api_url": at.base_url, "send_timeout": 2.0}
        )
        async with serving(settings) as api:
            yield Both(api, at)


async def channel(api: ApiStage, whose: Tenant, name: str, **credentials: str) -> str:
    given = CHANNELS[name] | {"credentials": CHANNELS[name]["credentials"] | credentials}
    answer = await api.post("/v1/channels", whose, given)
    assert answer.status == 201, answer.body
    return str(answer.body["channel"]["id"])


async def ask(api: ApiStage, whose: Tenant, channel_id: object, **headers: str) -> Answer:
    return await api.post("/v1/message-templates/sync", whose, {"channelId": str(channel_id)}, **headers)


async def sync(api: ApiStage, whose: Tenant, channel_id: object) -> Synced:
    answer = await ask(api, whose, channel_id)
    assert answer.status == 200, answer.body
    return Synced(**answer.body)


async def statuses(api: ApiStage, whose: Tenant) -> dict[str, str]:
    listed = (await api.get("/v1/message-templates", whose)).body["messageTemplates"]
    return {one["name"]: one["status"] for one in listed}


@pytest.mark.parametrize("name", CHANNELS)
async def test_what_the_provider_lists_is_kept_as_it_is_there(both: Both, name: str) -> None:
    api, at = both
    ana = await api.tenant()
    channel_id = await channel(api, ana, name)
    made = MADE[name]
    await at.sandbox.templates(name, ACCOUNTS[name], made(1), made(2), made(3))
    assert await sync(api, ana, channel_id) == Synced(listed=3, created=3, updated=0, gone=0)
    (first, *_) = (await api.get("/v1/message-templates?status=approved", ana)).body["messageTemplates"]
    assert (first["channelId"], first["content"], first["category"]) == (channel_id, "Hi", "UTILITY")
    assert (first["isSynced"], first["isActive"]) == (True, True)
    before = first["updatedAt"]

    assert await sync(api, ana, channel_id) == Synced(listed=3, created=0, updated=0, gone=0)
    assert (await api.get(f"/v1/message-templates/{first['id']}", ana)).body["messageTemplate"]["updatedAt"] == before
    off = await api.patch(f"/v1/message-templates/{first['id']}", ana, {"isActive": False})
    assert off.status == 200

    changed = {"category": "MARKETING"} if name == "meta" else {"approval_requests": {"status": "paused"}}
    await at.sandbox.templates(name, ACCOUNTS[name], made(1, **changed), made(3))
    assert await sync(api, ana, channel_id) == Synced(listed=2, created=0, updated=1, gone=1)
    paused = "approved" if name == "meta" else "paused"
    assert await statuses(api, ana) == {"name_1": paused, "name_2": "gone", "name_3": "approved"}
    assert (await api.get(f"/v1/message-templates/{first['id']}", ana)).body["messageTemplate"]["isActive"] is False

    await at.sandbox.templates(name, ACCOUNTS[name], made(1, **changed), made(2), made(3))
    assert await sync(api, ana, channel_id) == Synced(listed=3, created=0, updated=1, gone=0)
    events = [(one["name"], one["detail"]["status"]) for one in await api.events(ana, "template")]
    assert events == [
        *[("template.created", "approved")] * 3, ("template.updated", "approved"),  # which is by hand
        ("template.updated", paused), ("template.updated", "gone"), ("template.updated", "approved"),
    ]  # fmt: skip


async def test_templates_that_were_entered_by_hand_stay_or_become_the_providers(both: Both) -> None:
    api, at = both
    ana = await api.tenant()
    channel_id = await channel(api, ana, "meta")
    ids = {}
    for given in (
        {"name": "name_1", "content": "old", "language": "en_US", "channelId": channel_id, "status": "pending"},
        {"name": "by its id", "content": "old", "externalId": "2", "channelId": channel_id},
        {"name": "name_1", "content": "of another language", "language": "es", "channelId": channel_id},
        {"name": "a text of our own", "content": "Hi"},
    ):
        answer = await api.post("/v1/message-templates", ana, given)
        ids[given["content"], given["name"]] = answer.body["messageTemplate"]["id"]
    await at.sandbox.templates("meta", ACCOUNT, of_meta(1), of_meta(2))
    assert await sync(api, ana, channel_id) == Synced(listed=2, created=0, updated=2, gone=0)
    rows = (await api.get("/v1/message-templates", ana)).body["messageTemplates"]
    found = {one["id"]: (one["name"], one["content"], one["status"], one["isSynced"]) for one in rows}
    assert found == {
        ids["old", "name_1"]: ("name_1", "Hi", "approved", True),
        ids["old", "by its id"]: ("name_2", "Hi", "approved", True),
        ids["of another language", "name_1"]: ("name_1", "of another language", "approved", False),
        ids["Hi", "a text of our own"]: ("a text of our own", "Hi", "approved", False),
    }
    await at.sandbox.templates("meta", ACCOUNT)
    assert await sync(api, ana, channel_id) == Synced(listed=0, created=0, updated=0, gone=2)


async def test_a_template_that_was_submitted_anew_keeps_its_row(both: Both) -> None:
    api, at = both
    ana = await api.tenant()
    channel_id = await channel(api, ana, "meta")
    await at.sandbox.templates("meta", ACCOUNT, of_meta(1))
    await sync(api, ana, channel_id)
    await at.sandbox.templates("meta", ACCOUNT, of_meta(9, name="name_1", status="PENDING"))
    assert await sync(api, ana, channel_id) == Synced(listed=1, created=0, updated=1, gone=0)
    (row,) = (await api.get("/v1/message-templates", ana)).body["messageTemplates"]
    assert (row["externalId"], row["status"]) == ("9", "pending")


async def test_each_channel_of_an_account_has_its_templates_and_no_other_tenant(both: Both) -> None:
    api, at = both
    ana, eva = await api.tenant(), await api.tenant()
    first = await channel(api, ana, "twilio")
    await at.sandbox.templates("twilio", ACCOUNT_SID, of_twilio(1))
    for whose, channel_id in ((ana, first), (eva, await channel(api, eva, "twilio"))):
        assert await sync(api, whose, channel_id) == Synced(listed=1, created=1, updated=0, gone=0)
    assert await statuses(api, eva) == {"name_1": "approved"}
    assert (await ask(api, eva, first)).problem == "not-found"


async def test_a_template_that_is_gone_is_not_sent(both: Both) -> None:
    api, at = both
    ana = await api.tenant()
    channel_id = await channel(api, ana, "twilio")
    await at.sandbox.templates("twilio", ACCOUNT_SID, of_twilio(1))
    await sync(api, ana, channel_id)
    (row,) = await api.rows("SELECT id FROM channels")
    to = await add_conversation(api, ana, row["id"])
    given = {"template": "name_1"}
    assert (await api.post(f"/v1/conversations/{to}/send-template", ana, given)).status == 200
    await at.sandbox.templates("twilio", ACCOUNT_SID)
    await sync(api, ana, channel_id)
    refused = await api.post(f"/v1/conversations/{to}/send-template", ana, given)
    assert (refused.problem, refused.pointers) == ("invalid-input", ["#/template"])
    assert "gone" in refused.body["detail"]


async def test_thousands_of_templates_are_written_in_one_go(both: Both) -> None:
    api, at = both
    ana = await api.tenant()
    channel_id = await channel(api, ana, "meta")
    await at.sandbox.templates("meta", ACCOUNT, *(of_meta(number) for number in range(2000)))
    assert await sync(api, ana, channel_id) == Synced(listed=2000, created=2000, updated=0, gone=0)
    assert await sync(api, ana, channel_id) == Synced(listed=2000, created=0, updated=0, gone=0)


@pytest.mark.parametrize(("name", "wrong"), [("meta", {"accessToken": "x"}), ("twilio", {"authToken": "x"})])
async def test_wrong_credentials_are_a_conflict_that_says_what_to_do(
    both: Both, name: str, wrong: dict[str, str]
) -> None:
    ana = await both.api.tenant()
    refused = await ask(both.api, ana, await channel(both.api, ana, name, **wrong))
    assert (refused.status, refused.problem, refused.pointers) == (409, "conflict", ["#/channelId"])
    assert "refuses" in refused.body["detail"]
    assert "channels.rotateSecrets" in refused.body["errors"][0]["remedy"]


@pytest.mark.parametrize("fault", [{"action": "5xx", "status": 500}, {"action": "hang", "seconds": 5}], ids=str)
async def test_a_provider_that_does_not_answer_changes_nothing(both: Both, fault: dict[str, object]) -> None:
    api, at = both
    ana = await api.tenant()
    channel_id = await channel(api, ana, "meta")
    await at.sandbox.templates("meta", ACCOUNT, of_meta(1))
    await sync(api, ana, channel_id)
    await at.sandbox.faults({"provider": "meta", **fault, "times": 1})
    refused = await ask(api, ana, channel_id, Idempotency_Key="1")
    assert (refused.status, refused.problem, refused.headers["Retry-After"]) == (503, "provider-away", "30")
    assert await statuses(api, ana) == {"name_1": "approved"}
    assert (await ask(api, ana, channel_id, Idempotency_Key="1")).status == 200, "it leaves the key free"


@pytest.mark.parametrize(("name", "kind"), [("kommo", "whatsapp"), ("email", "email")])
async def test_providers_without_templates_say_so(both: Both, name: str, kind: str) -> None:
    ana = await both.api.tenant()
    refused = await ask(both.api, ana, await add_channel(both.api, ana, name, kind))
    assert (refused.problem, refused.pointers) == ("invalid-input", ["#/channelId"])
    assert "has no message templates" in refused.body["detail"]
    assert "meta or twilio" in refused.body["errors"][0]["remedy"]
