"""webhooks.*: URLs of a tenant's own systems, and their secrets."""

from uuid import UUID, uuid4

import pytest

from shared.actions.webhook_keys import signing
from shared.crypto import KeyRing
from shared.store.webhooks import MOST_WEBHOOKS
from tests.support.api import ApiStage
from tests.support.api_inputs import row

pytestmark = pytest.mark.asyncio(loop_scope="module")

URL = "https://shop.example/palomar"


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def test_a_webhook_is_created_changed_and_deleted_each_with_its_event(api: ApiStage) -> None:
    ana = await api.tenant()
    given = {"name": "Web shop", "url": URL, "events": ["contact_created", "message_*", "contact_created"]}
    answer = await api.post("/v1/webhooks", ana, given)
    made = answer.body["webhook"]
    assert made["events"] == ["contact_created", "message_*"]
    assert made["hasSecret"] is True
    assert answer.body["secret"].startswith("whsec_")
    at = f"/v1/webhooks/{made['id']}"
    assert (await api.get(at, ana)).body == {"webhook": made}
    changed = (await api.patch(at, ana, {"events": ["*"], "isActive": False})).body["webhook"]
    assert (changed["events"], changed["isActive"], changed["hasSecret"]) == (["*"], False, True)
    assert (await api.delete(at, ana)).body["webhook"]["deletedAt"] is not None
    assert (await api.get("/v1/webhooks", ana)).body["webhooks"] == []
    events = await api.events(ana, "webhook")
    assert [one["name"] for one in events] == ["webhook.created", "webhook.updated", "webhook.deleted"]


async def test_the_secret_is_nowhere_that_a_tenant_or_a_replay_shows_it(api: ApiStage) -> None:
    ana = await api.tenant()
    given = {"name": "Web shop", "url": URL, "events": ["*"]}
    first = await api.post("/v1/webhooks", ana, given, Idempotency_Key="1")
    again = await api.post("/v1/webhooks", ana, given, Idempotency_Key="1")
    assert again.body == first.body | {"secret": None}
    for table in ("webhooks", "idempotency_keys", "events"):
        rows = await api.rows(f"SELECT to_jsonb(t)::text AS text FROM {table} AS t WHERE tenant_id = $1", ana.id)
        assert rows
        assert not any(first.body["secret"] in one["text"] for one in rows)
    assert await api.rows("SELECT FROM unsealed_webhook_secrets") == [], "it is sealed at once"
    (row,) = await api.rows("SELECT id, secret, sealed_secret FROM webhooks WHERE tenant_id = $1", ana.id)
    keys = KeyRing.parse(api.settings.secret_keys.get_secret_value())
    assert keys.open(row["sealed_secret"], tenant_id=ana.id, owner=row["id"]) == first.body["secret"]
    assert row["secret"] == "••••••••"


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/palomar", "https://127.0.0.1/x", "https://10.0.0.8", "https://[::1]/", "https://2130706433/",
        "https://169.254.169.254/latest", "https://ana:secret@shop.example/", "ftp://shop.example/", "shop.example",
        "https://", "https://shop.example:99999/", "https://[", "javascript:alert(1)",
    ],
)  # fmt: skip
async def test_a_url_is_https_and_of_the_public_network(api: ApiStage, url: str) -> None:
    ana = await api.tenant()
    made = await row(api, ana, "webhooks")
    for answer in (
        await api.post("/v1/webhooks", ana, {"name": "x", "url": url, "events": ["*"]}),
        await api.patch(f"/v1/webhooks/{made}", ana, {"url": url}),
    ):
        assert (answer.problem, answer.pointers) == ("invalid-input", ["#/url"])


NAMES = ["", "Contact", "contact created", "contact.created", "**", "*x", "x" * 80, "message_recieved", "order_*"]


@pytest.mark.parametrize("event", NAMES)
async def test_an_event_is_named_as_events_are(api: ApiStage, event: str) -> None:
    answer = await api.post("/v1/webhooks", await api.tenant(), {"name": "x", "url": URL, "events": [event]})
    assert (answer.problem, answer.pointers) == ("invalid-input", ["#/events/0"])
    assert answer.body["errors"][0]["remedy"]


async def test_a_webhook_has_filters_that_are_changed_one_by_one(api: ApiStage) -> None:
    ana = await api.tenant()
    channel = await row(api, ana, "channels")
    given = {"name": "x", "url": URL, "events": ["*"], "channelIds": [channel], "direction": "inbound", "tags": ["vip"]}
    made = (await api.post("/v1/webhooks", ana, given)).body["webhook"]
    assert {name: made[name] for name in given} == given
    assert made["inOrder"] is False
    at = f"/v1/webhooks/{made['id']}"
    changed = (await api.patch(at, ana, {"inOrder": True, "tags": []})).body["webhook"]
    assert (changed["inOrder"], changed["tags"], changed["direction"]) == (True, [], "inbound")
    changed = (await api.patch(at, ana, {"direction": None, "channelIds": []})).body["webhook"]
    assert (changed["direction"], changed["channelIds"], changed["inOrder"]) == (None, [], True)


async def test_a_channel_that_is_not_there_is_named_by_its_place(api: ApiStage) -> None:
    ana = await api.tenant()
    channels = [await row(api, ana, "channels"), str(uuid4())]
    answer = await api.post("/v1/webhooks", ana, {"name": "x", "url": URL, "events": ["*"], "channelIds": channels})
    assert (answer.problem, answer.pointers) == ("not-found", ["#/channelIds/1"])


async def test_after_a_rotation_the_keys_before_sign_too_for_a_while(api: ApiStage) -> None:
    ana = await api.tenant()
    first = (await api.post("/v1/webhooks", ana, {"name": "x", "url": URL, "events": ["*"]})).body
    at = f"/v1/webhooks/{first['webhook']['id']}/rotate-secret"
    second = (await api.post(at, ana, {"overlapSeconds": 60})).body
    assert second["secret"].startswith("whsec_")
    assert second["secret"] != first["secret"]
    assert second["webhook"]["publicKey"] != first["webhook"]["publicKey"]
    assert second["webhook"]["previousUntil"] is not None
    assert await secrets(api, first["webhook"]["id"]) == [second["secret"], first["secret"]]
    third = (await api.post(at, ana, {"overlapSeconds": 0})).body
    assert await secrets(api, first["webhook"]["id"]) == [third["secret"]]
    assert [one["name"] for one in await api.events(ana, "webhook")][1:] == ["webhook.secret_rotated"] * 2


async def secrets(api: ApiStage, webhook_id: str) -> list[str]:
    """What signs for a webhook now, and as many private keys."""
    keys = KeyRing.parse(api.settings.secret_keys.get_secret_value())
    (found,) = await api.rows("SELECT tenant_id FROM webhooks WHERE id = $1", UUID(webhook_id))
    async with api.pool.acquire() as connection:
        signs = await signing(connection, keys, found["tenant_id"], UUID(webhook_id))
    assert signs is not None
    assert len(signs.private_keys) == len(signs.secrets)
    return list(signs.secrets)


async def disable(api: ApiStage, webhook_id: str) -> None:
    await api.pool.execute(
        "INSERT INTO webhook_health (tenant_id, webhook_id, failures, disabled_at, disabled_reason) "
        "SELECT tenant_id, id, 10, now(), 'exhausted' FROM webhooks WHERE id = $1 ON CONFLICT (tenant_id, webhook_id) "
        "DO UPDATE SET failures = 10, disabled_at = now(), disabled_reason = 'exhausted'",
        UUID(webhook_id),
    )


async def test_a_disabled_webhook_is_enabled_by_saying_so_and_by_nothing_else(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await row(api, ana, "webhooks")
    at = f"/v1/webhooks/{made}"
    await disable(api, made)
    renamed = (await api.patch(at, ana, {"name": "Other"})).body["webhook"]
    assert (renamed["disabledReason"], renamed["failures"], renamed["isActive"]) == ("exhausted", 10, True)
    enabled = (await api.patch(at, ana, {"isActive": True})).body["webhook"]
    assert (enabled["disabledAt"], enabled["failures"], enabled["isActive"]) == (None, 0, True)
    (health,) = await api.rows("SELECT due_at <= now() AS is_due FROM webhook_health WHERE webhook_id = $1", UUID(made))
    assert health["is_due"], "what waits comes at once"
    names = [one["name"] for one in await api.events(ana, "webhook")]
    assert names == ["webhook.created", "webhook.updated", "webhook.updated"]


async def test_a_version_shows_a_changed_health_and_if_match_does_not_mind_it(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await row(api, ana, "webhooks")
    at = f"/v1/webhooks/{made}"
    etag = (await api.get(at, ana)).headers["ETag"]
    assert (await api.get(at, ana, If_None_Match=etag)).status == 304
    await disable(api, made)
    seen = await api.get(at, ana, If_None_Match=etag)
    assert (seen.status, seen.body["webhook"]["disabledReason"]) == (200, "exhausted")
    assert (await api.patch(at, ana, {"name": "Other"}, If_Match=etag)).status == 200
    assert (await api.patch(at, ana, {"name": "Third"}, If_Match=etag)).status == 412


async def test_a_tenant_has_so_many_webhooks_and_no_more(api: ApiStage) -> None:
    ana = await api.tenant()
    await api.pool.execute(
        "INSERT INTO webhooks (tenant_id, url) SELECT $1, $2 FROM generate_series(2, $3)", ana.id, URL, MOST_WEBHOOKS
    )
    given = {"name": "x", "url": URL, "events": ["*"]}
    assert (await api.post("/v1/webhooks", ana, given)).status == 201
    answer = await api.post("/v1/webhooks", ana, given)
    assert (answer.status, answer.problem) == (409, "conflict")
