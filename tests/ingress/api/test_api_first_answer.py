"""A customer writes, and a tenant reads that and answers over the API, with the real workers between."""

from uuid import uuid4

from shared.settings import Settings
from tests.support.api import ApiStage, Tenant, serving
from tests.support.stage import staged

BY_HAND = {"reply": {"engine": "none"}}


async def only_conversation(api: ApiStage, whose: Tenant) -> str:
    (conversation,) = (await api.get("/v1/conversations", whose)).body["conversations"]
    return str(conversation["id"])


async def test_a_customer_who_writes_is_answered_once(settings: Settings) -> None:
    async with (
        staged(settings, BY_HAND, receipts=True) as stage,
        stage.working("persist", "window", "send"),
        serving(stage.settings) as api,
    ):
        ana = await api.key(Tenant(stage.ours.tenant_id, "", uuid4()), "conversations:read", "conversations:write")
        await stage.deliver(stage.said("¿Qué precio tiene?"))
        await stage.until(stage.count, "messages WHERE status = 'received'", equals=1)
        conversation = await only_conversation(api, ana)
        at = f"/v1/conversations/{conversation}"
        for _ in range(3):
            answer = await api.post(f"{at}/send", ana, {"content": "Cuesta 20 €."}, Idempotency_Key="answer 1")
            assert answer.status == 200, answer.body
        await stage.until(stage.count, "messages WHERE status = 'read'", equals=1)
        assert await stage.bodies() == ["Cuesta 20 €."]
        found = (await api.get(f"{at}/messages", ana)).body["messages"]
        assert [(one["content"], one["status"]) for one in found] == [
            ("Cuesta 20 €.", "read"), ("¿Qué precio tiene?", "received"),
        ]  # fmt: skip
        assert found[0]["id"] == answer.body["message"]["id"]
        assert found[0]["externalId"]


async def test_a_customer_who_opts_out_gets_nothing_more(settings: Settings) -> None:
    async with (
        staged(settings, BY_HAND) as stage,
        stage.working("persist", "window", "send"),
        serving(stage.settings) as api,
    ):
        ana = await api.key(Tenant(stage.ours.tenant_id, "", uuid4()), "*")
        await stage.deliver(stage.said("baja"))
        await stage.until(stage.count, "consents", equals=1)
        conversation = await only_conversation(api, ana)
        refused = await api.post(f"/v1/conversations/{conversation}/send", ana, {"content": "Una oferta"})
        assert (refused.status, refused.problem) == (409, "conflict")
        assert "opted out" in refused.body["detail"]
        assert await stage.count("messages WHERE direction = 'outbound'") == 0
