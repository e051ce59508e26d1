"""webhooks.*: URLs of a tenant's own systems, and their secrets."""

import pytest

from shared.crypto import KeyRing
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


@pytest.mark.parametrize("event", ["", "Contact", "contact created", "contact.created", "**", "*x", "x" * 80])
async def test_an_event_is_named_as_events_are(api: ApiStage, event: str) -> None:
    answer = await api.post("/v1/webhooks", await api.tenant(), {"name": "x", "url": URL, "events": [event]})
    assert (answer.problem, answer.pointers) == ("invalid-input", ["#/events/0"])
