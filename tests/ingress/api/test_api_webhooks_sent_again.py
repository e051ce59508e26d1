"""From a call of the API to the request at the tenant's own system: a sample, and deliveries that are sent again."""

from standardwebhooks import Webhook

from shared.actions import api_keys
from shared.settings import Settings
from tests.support.api import ApiStage, Tenant, serving
from tests.support.webhook_stage import WORKERS, Hooks, hooked


async def key_of(api: ApiStage, hooks: Hooks) -> Tenant:
    """A key of the tenant whose webhooks these are."""
    tenant_id = hooks.stage.ours.tenant_id
    async with api.pool.acquire() as connection, connection.transaction():
        key = await api_keys.create(connection, tenant_id, "test", ["*"])
    return Tenant(tenant_id, key.key, key.stored.id)


async def test_a_sample_arrives_signed_at_the_tenants_system(settings: Settings) -> None:
    async with hooked(settings) as hooks, serving(hooks.stage.settings) as api, hooks.stage.working(*WORKERS):
        shop, ana = await hooks.add("/shop"), await key_of(api, hooks)
        answer = await api.post(f"/v1/webhooks/{shop.id}/test", ana, {"event": "contact_created"})
        (received,) = await hooks.receiver.wait("/shop", 1)
        assert received.id == answer.body["logId"]
        body = Webhook(shop.secret).verify(received.body.decode(), dict(received.headers))
        assert body["type"] == "contact_created"
        await shop.until(delivered=1)
        shown = await api.get(f"/v1/webhooks/{shop.id}/log", ana, params={"logId": received.id})
        assert [(one["kind"], one["status"]) for one in shown.body["log"]["attempts"]] == [("test", 200)]


async def test_one_delivery_and_a_range_arrive_again_under_their_ids(settings: Settings) -> None:
    async with hooked(settings) as hooks, serving(hooks.stage.settings) as api, hooks.stage.working(*WORKERS):
        shop, ana = await hooks.add("/shop"), await key_of(api, hooks)
        await hooks.happen(3)
        await shop.until(delivered=3)
        first, second, third = (one.id for one in shop.received())
        answer = await api.post(f"/v1/webhooks/{shop.id}/replay", ana, {"logId": second})
        assert answer.body == {"count": 1, "isMore": False}
        received = await hooks.receiver.wait("/shop", 4)
        assert received[3].id == second
        assert Webhook(shop.secret).verify(received[3].body.decode(), dict(received[3].headers)) == received[1].json()
        answer = await api.post(f"/v1/webhooks/{shop.id}/replay", ana, {"since": "2026-01-01T00:00:00Z"})
        assert answer.body == {"count": 3, "isMore": False}
        received = await hooks.receiver.wait("/shop", 7, within=20)
        assert {one.id for one in received[4:]} == {first, second, third}
