"""campaigns.start, schedule, pause, resume and cancel: each step, its event, and what is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.ingress.api.test_api_campaigns import drafted
from tests.ingress.api.test_api_contacts import created
from tests.support.api import ApiStage, Tenant
from tests.support.api_campaigns import add_campaign, add_recipient
from tests.support.api_conversations import add_channel, add_conversation, make_template

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def step(api: ApiStage, whose: Tenant, campaign: dict[str, Any], verb: str, **given: Any) -> dict[str, Any]:
    answer = await api.post(f"/v1/campaigns/{campaign['id']}/{verb}", whose, given)
    assert answer.status == 200, answer.body
    moved: dict[str, Any] = answer.body["campaign"]
    return moved


async def statuses(api: ApiStage, whose: Tenant) -> list[str]:
    return [one["name"].removeprefix("campaign.") for one in await api.events(whose, "campaign")]


async def test_a_campaign_is_started_paused_resumed_and_canceled_each_with_one_event(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await drafted(api, ana, recipientType="all")
    began = await step(api, ana, made, "start")
    assert (began["status"], began["startedAt"] is not None) == ("running", True)
    await step(api, ana, made, "start")
    paused = await step(api, ana, made, "pause")
    assert (paused["status"], paused["pausedReason"]) == ("paused", "person")
    assert "campaigns.resume" in paused["pausedDetail"]["resume"]
    resumed = await step(api, ana, made, "start")
    assert (resumed["status"], resumed["pausedReason"], resumed["startedAt"]) == ("running", None, began["startedAt"])
    await step(api, ana, made, "pause")
    await step(api, ana, made, "resume")
    assert (await step(api, ana, made, "cancel"))["status"] == "canceled"
    expected = ["created", "running", "paused", "running", "paused", "running", "canceled"]
    assert await statuses(api, ana) == expected
    detail = (await api.events(ana, "campaign"))[2]["detail"]
    assert detail == {"campaign_id": made["id"], "status": "paused", "reason": "person"}


async def test_a_step_that_leads_nowhere_is_refused_with_the_states_it_needs(api: ApiStage) -> None:
    ana = await api.tenant()
    for status, verb, remedy in (
        ("draft", "pause", "running"),
        ("draft", "resume", "paused"),
        ("draft", "cancel", "paused, running or scheduled"),
        ("running", "unschedule", "scheduled"),
        ("completed", "start", "draft, paused or scheduled"),
        ("canceled", "resume", "paused"),
    ):
        campaign_id = await add_campaign(api, ana, status)
        answer = await api.post(f"/v1/campaigns/{campaign_id}/{verb}", ana, {})
        assert (answer.problem, answer.pointers) == ("conflict", ["#/id"]), (status, verb)
        assert remedy in answer.body["errors"][0]["remedy"]


async def test_a_campaign_for_no_one_is_not_started(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await drafted(api, ana)
    for verb, given in (("start", {}), ("schedule", {"at": "2099-01-01T09:00:00"})):
        answer = await api.post(f"/v1/campaigns/{made['id']}/{verb}", ana, given)
        assert answer.problem == "conflict"
        assert answer.pointers == ["#/recipientType"]


@pytest.mark.parametrize(
    ("zone", "at", "moment"),
    [
        ("Europe/Madrid", "2099-01-07T09:00:00", "2099-01-07T08:00:00Z"),
        ("Europe/Madrid", "2099-07-07T09:00:00", "2099-07-07T07:00:00Z"),
        ("Europe/Madrid", "2099-07-07T09:00:00Z", "2099-07-07T09:00:00Z"),
        ("America/New_York", "2099-01-07T09:00:00+05:30", "2099-01-07T03:30:00Z"),
        (None, "2099-01-07T09:00:00", "2099-01-07T14:00:00Z"),  # the tenant's, America/Bogota
    ],
)
async def test_a_time_without_an_offset_is_of_the_campaigns_zone(
    api: ApiStage, zone: str | None, at: str, moment: str
) -> None:
    ana = await api.tenant()
    await api.post("/v1/campaigns/update-settings", ana, {"timezone": "America/Bogota"})
    made = await drafted(api, ana, recipientType="all", timezone=zone)
    moved = await step(api, ana, made, "schedule", at=at)
    assert (moved["status"], moved["scheduledAt"]) == ("scheduled", moment)


async def test_a_scheduled_campaign_is_moved_and_made_a_draft_again(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await drafted(api, ana, recipientType="all")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await step(api, ana, made, "schedule", at=tomorrow.isoformat())
    later = await step(api, ana, made, "schedule", at=(tomorrow + timedelta(days=1)).isoformat())
    assert datetime.fromisoformat(later["scheduledAt"]) == tomorrow + timedelta(days=1)
    assert (await api.patch(f"/v1/campaigns/{made['id']}", ana, {"name": "Q2"})).problem == "conflict"
    assert (await step(api, ana, made, "unschedule"))["status"] == "draft"
    assert (await api.patch(f"/v1/campaigns/{made['id']}", ana, {"name": "Q2"})).status == 200


@pytest.mark.parametrize(
    "at", [None, "2020-01-01T00:00:00Z", "0001-01-01T00:00:00", "9999-12-31T23:59:59", "tomorrow", 7, "2099-02-30"]
)
async def test_a_time_that_is_over_or_none_at_all_is_refused(api: ApiStage, at: Any) -> None:
    ana = await api.tenant()
    made = await drafted(api, ana, recipientType="all")
    answer = await api.post(f"/v1/campaigns/{made['id']}/schedule", ana, {"at": at})
    assert (answer.problem, answer.pointers) == ("invalid-input", ["#/at"])


async def test_a_tenants_defaults_are_changed_field_by_field(api: ApiStage) -> None:
    ana = await api.tenant()
    at = "/v1/campaigns/settings"
    assert (await api.get(at, ana)).body["settings"] == {"timezone": "UTC", "quietHours": None, "dailyCap": None}
    hours = {"begin": "20:00", "end": "09:00"}
    changed = await api.post("/v1/campaigns/update-settings", ana, {"quietHours": hours, "dailyCap": 2})
    assert changed.body["settings"] == {"timezone": "UTC", "quietHours": hours, "dailyCap": 2}
    await api.post("/v1/campaigns/update-settings", ana, {"timezone": "Europe/Madrid", "dailyCap": None})
    assert (await api.get(at, ana)).body["settings"] == {
        "timezone": "Europe/Madrid", "quietHours": hours, "dailyCap": None,
    }  # fmt: skip
    assert ZoneInfo("Europe/Madrid").key in str(
        await api.pool.fetchval("SELECT settings -> 'campaigns' FROM tenants WHERE id = $1", ana.id)
    )
    for given, pointer in (
        ({"timezone": "Mars/Base"}, "#/timezone"),
        ({"dailyCap": 0}, "#/dailyCap"),
        ({"quietHours": {"begin": "08:00"}}, "#/quietHours"),
    ):
        assert (await api.post("/v1/campaigns/update-settings", ana, given)).pointers == [pointer]
    assert [one["name"] for one in await api.events(ana, "tenant")].count("tenant.campaigns_changed") == 2


async def test_a_new_run_is_for_those_whom_an_ended_campaign_did_not_reach(api: ApiStage) -> None:
    ana = await api.tenant()
    former = await add_campaign(api, ana, "completed")
    at = f"/v1/campaigns/{former}/again"
    made = (await api.post(at, ana, {})).body["campaign"]
    assert (made["status"], made["recipientType"], made["recipientIds"]) == ("draft", "campaign", [str(former)])
    assert (made["originId"], made["name"]) == (str(former), "Q1 Promotion (again)")
    assert made["recipientFilter"]["statuses"] == ["failed", "canceled", "skipped"]
    risky = (await api.post(at, ana, {"includeUnknown": True, "name": "Q1, all"})).body["campaign"]
    assert (risky["name"], "unknown" in risky["recipientFilter"]["statuses"]) == ("Q1, all", True)
    running = await add_campaign(api, ana, "running")
    assert (await api.post(f"/v1/campaigns/{running}/again", ana, {})).problem == "conflict"


async def test_a_test_goes_to_one_address_and_is_not_counted(api: ApiStage) -> None:
    ana = await api.tenant()
    contact = (await created(api, ana, "+34600000001"))["id"]
    await api.patch(f"/v1/contacts/{contact}", ana, {"name": "Ana"})
    sms = str(await add_channel(api, ana, kind="sms"))
    made = await drafted(
        api, ana, whatsappInstanceId=sms, message="Hi {{contact.name}}, {{data.code}}, {{data.shop|ours}}",
        messageData={contact: {"code": "A1"}},
    )  # fmt: skip
    at = f"/v1/campaigns/{made['id']}/test"
    known = await api.post(at, ana, {"to": "+34 600 000 001"}, Idempotency_Key="mine")
    assert known.status == 200, known.body
    assert (known.body["message"]["content"], known.body["message"]["status"]) == ("Hi Ana, A1, ours", "queued")
    again = await api.post(at, ana, {"contactId": contact})
    assert again.body["message"]["content"] == known.body["message"]["content"]
    unknown = await api.post(at, ana, {"to": "+34600000009"})
    assert (unknown.problem, unknown.pointers) == ("invalid-input", ["#/to"])
    assert "contact.name" in unknown.body["detail"], "nothing is known for it"
    neither, both = await api.post(at, ana, {}), await api.post(at, ana, {"to": "+34600000009", "contactId": contact})
    assert [neither.pointers, both.pointers] == [["#/to"], ["#/to"]]
    assert await api.pool.fetchval("SELECT count(*) FROM campaign_recipients WHERE tenant_id = $1", ana.id) == 0
    assert await api.pool.fetchval("SELECT count(*) FROM contacts WHERE tenant_id = $1", ana.id) == 1
    for to, problem in (("ana@shop.example", "invalid-input"), ("12345", "invalid-input"), ("nobody", "invalid-input")):
        answer = await api.post(at, ana, {"to": to})
        assert (answer.problem, answer.pointers) == (problem, ["#/to"])


@pytest.mark.parametrize("variant", [0, 1])
async def test_a_test_of_a_template_has_its_variables(api: ApiStage, variant: int) -> None:
    ana = await api.tenant()
    templates = [await make_template(api, ana) for _ in range(2)]
    made = await drafted(
        api, ana, messageTemplateId=templates[0], variables={"1": "{{contact.name|you}}"},
        settings={"comparison": {"templateId": templates[1]}},
    )  # fmt: skip
    answer = await api.post(f"/v1/campaigns/{made['id']}/test", ana, {"to": "+34600000009", "variant": variant})
    sent = answer.body["message"]
    name = await api.pool.fetchval(
        "SELECT external_id FROM message_templates WHERE id = $1::text::uuid", templates[variant]
    )
    assert (sent["template"]["name"], sent["template"]["variables"]) == (name, {"1": "you"})
    assert sent["content"] == "Hola you"


async def test_messages_that_waited_for_a_paused_campaign_are_due_once_it_is_resumed(api: ApiStage) -> None:
    ana = await api.tenant()
    campaign_id = await add_campaign(api, ana, "paused")
    conversation = await add_conversation(api, ana)
    contact = await add_recipient(api, ana, campaign_id)
    await api.pool.execute(
        """INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, lane,
            content, out_seq, due_at, not_before, campaign_recipient_id)
        SELECT gen_random_uuid(), c.tenant_id, c.id, c.channel_id, c.provider, 'outbound', 'assistant', 'ready', 'bulk',
            'Hello!', 1, now() + interval '1 hour', now() + interval '1 hour', r.id
        FROM conversations c, campaign_recipients r WHERE c.id = $1 AND r.contact_id = $2""",
        *(conversation, contact),
    )
    await step(api, ana, {"id": campaign_id}, "resume")
    due = "SELECT due_at <= now() AND not_before IS NULL FROM messages WHERE conversation_id = $1"
    assert await api.pool.fetchval(due, conversation) is True


@pytest.mark.parametrize("verb", ["start", "schedule"])
async def test_a_recurring_campaign_waits_for_its_next_time(api: ApiStage, verb: str) -> None:
    ana = await api.tenant()
    made = await drafted(api, ana, recipientType="all", timezone="Europe/Madrid", recurrence="0 9 1 * *")
    moved = await step(api, ana, made, verb)
    assert (moved["status"], moved["startedAt"]) == ("scheduled", None)
    at = datetime.fromisoformat(moved["scheduledAt"]).astimezone(ZoneInfo("Europe/Madrid"))
    assert (at.day, at.hour, at.minute) == (1, 9, 0)
    assert (await step(api, ana, made, "start"))["scheduledAt"] == moved["scheduledAt"]
    assert (await step(api, ana, made, "cancel"))["status"] == "canceled"
