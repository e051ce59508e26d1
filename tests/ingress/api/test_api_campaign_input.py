"""campaigns.create and update: what a draft may hold, and how what it may not hold is refused."""

from typing import Any
from uuid import uuid4

import pytest

from ingress.api import campaign_settings_models as models
from shared.domain.campaigns import settings as domain
from tests.ingress.api.test_api_campaigns import drafted
from tests.ingress.api.test_api_contacts import created
from tests.support.api import ApiStage
from tests.support.api_conversations import add_channel, make_template

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUTTONS = {"buttons": [{"id": "yes", "title": "Yes"}, {"id": "no", "title": "No"}]}
EVERYTHING: dict[str, Any] = {
    "message": "Hello {{contact.name|there}}, {{data.voucher|no voucher}}",
    "variables": {"1": "{{contact.metadata.city|your city}}"},
    "media": [{"url": "https://shop.example/offers.pdf", "filename": "Offers.pdf"}],
    "recipientType": "all",
    "recipientFilter": {"tags": ["vip"], "consent": "opted_in", "lastSeenAfter": "2026-01-01T00:00:00Z"},
    "settings": {
        "freeForm": True,
        "quietHours": {"begin": "22:00", "end": "07:30"},
        "waves": {"shares": [0.05, 0.5], "wait": 60, "approval": True},
        "autoPause": {"failures": 0.1},
        "rate": 5,
        "dailyCap": 2,
        "endsAt": "2099-01-01T00:00:00Z",
        "atEnd": "expire",
    },
    "timezone": "Europe/Madrid",
    "recurrence": "0 9 * * MON",
}


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def test_a_draft_holds_all_that_a_campaign_may_say(api: ApiStage) -> None:
    ana = await api.tenant()
    contact = (await created(api, ana))["id"]
    channel = str(await add_channel(api, ana, "meta"))
    facts = {contact: {"voucher": "ANA-10"}}
    made = await drafted(api, ana, whatsappInstanceId=channel, messageData=facts, **EVERYTHING)
    shown = (await api.get(f"/v1/campaigns/{made['id']}", ana)).body["campaign"]
    assert shown == made
    assert made["messageData"] == facts
    for name in ("message", "variables", "recipientType", "timezone", "recurrence"):
        assert made[name] == EVERYTHING[name]
    assert made["media"] == [{**EVERYTHING["media"][0], "mimeType": None}]
    assert EVERYTHING["recipientFilter"].items() <= made["recipientFilter"].items()
    settings = EVERYTHING["settings"]
    assert made["settings"] == models.CampaignSettings().model_dump(mode="json", by_alias=True) | settings | {
        "autoPause": {"failures": 0.1, "optOuts": 0.05, "blocks": 0.05, "held": 0.3}
    }
    at = f"/v1/campaigns/{made['id']}"
    gone: dict[str, Any] = {
        "recipientFilter": None,
        "timezone": None,
        "recurrence": None,
        "media": [],
        "interactive": BUTTONS,
    }
    changed = (await api.patch(at, ana, gone)).body["campaign"]
    assert {name: changed[name] for name in ("recipientFilter", "timezone", "recurrence", "media")} == {
        "recipientFilter": None, "timezone": None, "recurrence": None, "media": [],
    }  # fmt: skip
    assert [one["title"] for one in changed["interactive"]["buttons"]] == ["Yes", "No"]
    assert changed["settings"] == made["settings"]
    assert (await api.patch(at, ana, {"settings": {}})).body["campaign"]["settings"]["dailyCap"] is None


async def test_two_templates_are_compared(api: ApiStage) -> None:
    ana = await api.tenant()
    one, other = [await make_template(api, ana) for _ in range(2)]
    made = await drafted(api, ana, messageTemplateId=one, settings={"comparison": {"templateId": other, "by": "read"}})
    assert made["settings"]["comparison"]["atLeast"] == 200
    same = {"settings": {"comparison": {"templateId": one}}}
    for given in (same, {"settings": {"comparison": {"templateId": str(uuid4())}}}):
        answer = await api.patch(f"/v1/campaigns/{made['id']}", ana, given)
        assert answer.pointers == ["#/settings/comparison/templateId"]


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"settings": {"freeForm": "yes"}}, "#/settings/freeForm"),
        ({"settings": {"unknown": 1}}, "#/settings/unknown"),
        ({"settings": {"rate": 0}}, "#/settings/rate"),
        ({"settings": {"rate": 10**9}}, "#/settings/rate"),
        ({"settings": {"dailyCap": 0}}, "#/settings/dailyCap"),
        ({"settings": {"endsAt": "2027-01-01T00:00:00"}}, "#/settings/endsAt"),
        ({"settings": {"endsAt": "9999-12-31T23:59:59Z"}}, "#/settings/endsAt"),
        ({"settings": {"waves": {"shares": [0.5, 0.1]}}}, "#/settings/waves"),
        ({"settings": {"waves": {"shares": [0.1] * 11}}}, "#/settings/waves/shares"),
        ({"settings": {"waves": {"wait": -1}}}, "#/settings/waves/wait"),
        ({"settings": {"autoPause": {"failures": 1.1}}}, "#/settings/autoPause/failures"),
        ({"settings": {"quietHours": {"begin": "9 pm"}}}, "#/settings/quietHours/begin"),
        ({"settings": {"quietHours": {"begin": "24:00"}}}, "#/settings/quietHours/begin"),
        ({"settings": {"quietHours": {"begin": "08:00", "end": "08:00"}}}, "#/settings/quietHours"),
        ({"settings": {"comparison": {"templateId": "x"}}}, "#/settings/comparison/templateId"),
        ({"timezone": "Europe/Atlantis"}, "#/timezone"),
        ({"timezone": "../../etc/passwd"}, "#/timezone"),
        ({"timezone": "A" * 10_000}, "#/timezone"),
        ({"recurrence": "* * * * *"}, "#/recurrence"),
        ({"recurrence": "0 0 30 2 *"}, "#/recurrence"),
        ({"recurrence": "0 0 * * * *"}, "#/recurrence"),
        ({"recurrence": "1/" * 40 + "1 * * * *"}, "#/recurrence"),
        ({"recurrence": "0-59/1,0-59/1,0-59/1 0-23 * * *"}, "#/recurrence"),
        ({"recurrence": "every monday"}, "#/recurrence"),
        ({"message": "Hello {{contact.password}}"}, "#/message"),
        ({"message": "Hello {{contact.name"}, "#/message"),
        ({"message": "Hello {{}}"}, "#/message"),
        ({"message": "{{data.a}}" + "".join(f"{{{{data.k{n}}}}}" for n in range(60))}, "#/message"),
        ({"message": "x" * 5_000}, "#/message"),
        ({"message": " \u200b "}, "#/message"),
        ({"variables": {"1": "{{contact.__class__}}"}}, "#/variables/1"),
        ({"variables": {"1": "x" * 1025}}, "#/variables/1"),
        ({"variables": {str(n): "x" for n in range(101)}}, "#/variables"),
        ({"media": [{"url": "http://shop.example/a.png"}]}, "#/media/0/url"),
        ({"media": [{"url": "https://169.254.169.254/latest/meta-data"}]}, "#/media/0/url"),
        ({"media": [{"url": "https://user:secret@shop.example/a.png"}]}, "#/media/0/url"),
        ({"media": [{"url": "file:///etc/passwd"}]}, "#/media/0/url"),
        ({"media": [{"url": "https://shop.example/a.png"}] * 11}, "#/media"),
        ({"media": [{"url": "https://shop.example/a.png"}] * 2}, "#/media"),
        ({"interactive": BUTTONS | {"buttons": BUTTONS["buttons"] * 2}}, "#/interactive"),
        ({"recipientType": "everybody"}, "#/recipientType"),
        ({"recipientType": "all", "recipientIds": [str(uuid4())]}, "#/recipientIds"),
        ({"recipientType": "campaign", "recipientIds": [str(uuid4()), str(uuid4())]}, "#/recipientIds"),
        ({"recipientFilter": {"tags": [""]}}, "#/recipientFilter/tags/0"),
        ({"recipientFilter": {"consent": "opted_out"}}, "#/recipientFilter/consent"),
        ({"recipientFilter": {"statuses": ["sent"]}}, "#/recipientFilter/statuses/0"),
        (
            {"recipientFilter": {"lastSeenAfter": "2026-02-01T00:00:00Z", "lastSeenBefore": "2026-01-01T00:00:00Z"}},
            "#/recipientFilter",
        ),
        ({"recipientFilter": {"sql": "1=1"}}, "#/recipientFilter/sql"),
        ({"messageData": {"ana": {}}}, "#/messageData/ana/[key]"),
        ({"messageData": {str(uuid4()): {"a": 1}}}, None),
        ({"messageData": {str(uuid4()): {} for _ in range(201)}}, "#"),
    ],
)
async def test_what_is_wrong_is_named_with_the_remedy(
    api: ApiStage, given: dict[str, Any], pointer: str | None
) -> None:
    ana = await api.tenant()
    channel = str(await add_channel(api, ana, "meta"))
    answer = await api.post(
        "/v1/campaigns", ana, {"whatsappInstanceId": channel, "name": "Q1", "message": "Hi", **given}
    )
    assert answer.problem == "invalid-input", answer.body
    assert pointer is None or answer.pointers[0] == pointer, answer.body
    assert all(error["remedy"] and error["detail"] for error in answer.body["errors"])
    assert "Value error" not in str(answer.body)
    assert await api.pool.fetchval("SELECT count(*) FROM campaigns WHERE tenant_id = $1", ana.id) == 0


async def test_a_file_or_buttons_need_a_text_to_go_with(api: ApiStage) -> None:
    ana = await api.tenant()
    template = await make_template(api, ana)
    channel = str(await add_channel(api, ana, "meta"))
    for name, part in (("interactive", BUTTONS), ("media", EVERYTHING["media"])):
        given = {"whatsappInstanceId": channel, "name": "Q1", "messageTemplateId": template, name: part}
        assert (await api.post("/v1/campaigns", ana, given)).pointers == [f"#/{name}"]


async def test_what_a_sql_session_wrote_does_not_keep_a_campaign_from_being_shown(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await drafted(api, ana)
    await api.pool.execute(
        """UPDATE campaigns SET settings = '{"rate": "fast"}', recipient_filter = '[1]', variables = '[]',
        interactive = '"x"', media = '[{"url": 7}, 8]' WHERE id = $1::text::uuid""",
        made["id"],
    )
    shown = (await api.get(f"/v1/campaigns/{made['id']}", ana)).body["campaign"]
    assert (shown["settings"], shown["recipientFilter"], shown["interactive"]) == (None, None, None)
    assert (shown["variables"], shown["media"]) == ({}, [])


async def test_the_api_takes_every_setting_that_there_is(api: ApiStage) -> None:
    pairs: list[tuple[Any, Any]] = [
        (models.CampaignSettings, domain.CampaignSettings),
        (models.CampaignQuietHours, domain.QuietHoursSettings),
        (models.CampaignWaves, domain.WaveSettings),
        (models.CampaignAutoPause, domain.AutoPauseSettings),
        (models.CampaignComparison, domain.ComparisonSettings),
        (models.RecipientFilter, domain.RecipientFilter),
        (models.TenantDefaults, domain.TenantCampaignSettings),
    ]
    for ours, theirs in pairs:
        assert set(ours.model_fields) == set(theirs.model_fields), ours
    assert models.CampaignSettings().model_dump(mode="json") == domain.CampaignSettings().model_dump(mode="json")
    assert models.TenantDefaults().model_dump() == domain.TenantCampaignSettings().model_dump()
