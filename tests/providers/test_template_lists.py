"""The lists of message templates of Meta and Twilio: what is read of them, and what comes of a list that is refused."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ops.sandbox.meta_forms import ACCESS_TOKEN, ACCOUNT
from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN
from shared.domain.model import ChannelKind
from shared.providers import provider
from shared.providers.templates import ListedTemplate, NoTemplateList
from shared.providers.twilio.templates import content_url
from shared.settings import Settings
from tests.support.sandbox_stage import Stage, playing

NOBODY = "http://127.0.0.1:9"
LOGINS: dict[str, dict[str, str]] = {
    "meta": {"access_token": ACCESS_TOKEN},
    "twilio": {"account_sid": ACCOUNT_SID, "auth_token": AUTH_TOKEN},
}
ACCOUNTS = {"meta": ACCOUNT, "twilio": ACCOUNT_SID}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with playing() as stage:
        yield stage


async def listed(
    url: str,
    name: str,
    *,
    login: dict[str, str] | None = None,
    kind: ChannelKind = "whatsapp",
    business_id: str | None = ACCOUNT,
) -> list[ListedTemplate]:
    settings = Settings(_env_file=None, meta_api_url=url, twilio_api_url=url, send_timeout=1)
    ask = provider(name).list_templates
    assert ask is not None
    return await ask(json.dumps(login or LOGINS[name]), kind=kind, business_id=business_id, settings=settings)


def of_meta(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": f"{number}", "name": f"name_{number}", "language": "en_US", "status": "APPROVED",
            "category": "UTILITY", "components": [{"type": "BODY", "text": "Hi"}], **more}  # fmt: skip


def of_twilio(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"sid": f"HX{number:032x}", "friendly_name": f"name_{number}", "language": "en", "variables": {},
            "types": {"twilio/text": {"body": "Hi"}},
            "approval_requests": {"status": "approved", "category": "UTILITY"}, **more}  # fmt: skip


MADE = {"meta": of_meta, "twilio": of_twilio}


async def test_a_template_of_meta_has_its_variables_as_a_send_names_them(stage: Stage) -> None:
    components = [
        {"type": "HEADER", "format": "TEXT", "text": "Order {{1}}"},
        {"type": "BODY", "text": "Dear {{first_name}}, it comes {{2}}."},
        {"type": "FOOTER", "text": "Reply STOP to opt out."},
        {"type": "BUTTONS", "buttons": [
            {"type": "QUICK_REPLY", "text": "Thanks"},
            {"type": "URL", "text": "Track", "url": "https://shop.example/{{1}}"},
            {"type": "URL", "text": "Shop", "url": "https://shop.example/"},
            {"type": "COPY_CODE"},
        ]},
    ]  # fmt: skip
    await stage.sandbox.templates("meta", ACCOUNT, of_meta(7, components=components, category="MARKETING"))
    (found,) = await listed(stage.base_url, "meta")
    assert found == ListedTemplate(
        external_id="7",
        name="name_7",
        language="en_US",
        category="MARKETING",
        status="approved",
        content="Order {{header.1}}\n\nDear {{first_name}}, it comes {{2}}.\n\nReply STOP to opt out.",
        variables=("header.1", "first_name", "2", "button.1", "button.3.copy_code"),
    )


async def test_a_header_with_a_file_is_a_variable(stage: Stage) -> None:
    components = [{"type": "HEADER", "format": "IMAGE", "example": {}}, {"type": "BODY", "text": "Hi {{1}}"}]
    await stage.sandbox.templates("meta", ACCOUNT, of_meta(components=components))
    (found,) = await listed(stage.base_url, "meta")
    assert found.variables == ("header.image", "1")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("APPROVED", "approved"), ("PENDING", "pending"), ("IN_APPEAL", "pending"), ("REJECTED", "rejected"),
        ("PAUSED", "paused"), ("DISABLED", "disabled"), ("PENDING_DELETION", "disabled"), ("NEW_AT_META", "pending"),
        ("DELETED", None),
    ],
)  # fmt: skip
async def test_the_states_of_meta(stage: Stage, said: str, status: str | None) -> None:
    await stage.sandbox.templates("meta", ACCOUNT, of_meta(status=said))
    found = await listed(stage.base_url, "meta")
    assert [one.status for one in found] == ([] if status is None else [status])


async def test_a_template_of_twilio(stage: Stage) -> None:
    await stage.sandbox.templates(
        "twilio", ACCOUNT_SID,
        of_twilio(1, variables={"1": "Ana", "image": "x.png"}, language="es_MX",
                  types={"twilio/media": {"body": "Hola {{1}}", "media": ["https://shop.example/{{image}}"]}}),
    )  # fmt: skip
    (found,) = await listed(stage.base_url, "twilio")
    assert found == ListedTemplate(
        external_id=f"HX{1:032x}",
        name="name_1",
        language="es_MX",
        category="UTILITY",
        status="approved",
        content="Hola {{1}}",
        variables=("1", "image"),
    )


@pytest.mark.parametrize(
    ("approval", "kind", "status"),
    [
        ({"status": "rejected"}, "whatsapp", "rejected"),
        ({"status": "paused"}, "whatsapp", "paused"),
        ({"status": "unsubmitted"}, "whatsapp", "pending"),
        ({"status": "received"}, "whatsapp", "pending"),
        (None, "whatsapp", "pending"),
        (None, "sms", "approved"),
    ],
)
async def test_the_states_of_twilio(
    stage: Stage, approval: dict[str, str] | None, kind: ChannelKind, status: str
) -> None:
    await stage.sandbox.templates("twilio", ACCOUNT_SID, of_twilio(approval_requests=approval))
    (found,) = await listed(stage.base_url, "twilio", kind=kind)
    assert found.status == status


@pytest.mark.parametrize("name", MADE)
async def test_all_pages_are_read(stage: Stage, name: str) -> None:
    await stage.sandbox.templates(name, ACCOUNTS[name], *(MADE[name](number) for number in range(250)))
    found = await listed(stage.base_url, name)
    assert [one.name for one in found] == [f"name_{number}" for number in range(250)]
    await stage.sandbox.templates(name, ACCOUNTS[name])
    assert await listed(stage.base_url, name) == []


@pytest.mark.parametrize("name", MADE)
async def test_what_can_not_be_stored_is_left_out_of_a_text(stage: Stage, name: str) -> None:
    strange: dict[str, Any] = {"id": "\0", "sid": None}
    cut = {"name": "a\0b" * 400, "friendly_name": "a\0b" * 400, "category": 7}
    await stage.sandbox.templates(name, ACCOUNTS[name], MADE[name](1, **strange), MADE[name](2, **cut))
    (found,) = await listed(stage.base_url, name)
    assert found.name == ("a\0b" * 400)[:512].replace("\0", "")


@pytest.mark.parametrize(
    ("name", "login"), [("meta", {"access_token": "x"}), ("twilio", LOGINS["twilio"] | {"auth_token": "x"})]
)
async def test_wrong_credentials_are_a_refusal_for_good(stage: Stage, name: str, login: dict[str, str]) -> None:
    with pytest.raises(NoTemplateList, match="refuses") as caught:
        await listed(stage.base_url, name, login=login)
    assert not caught.value.passing
    with pytest.raises(NoTemplateList, match="can't be used"):
        await listed(stage.base_url, name, login={"x": "y"})


async def test_a_number_without_its_business_account_says_so() -> None:
    with pytest.raises(NoTemplateList, match="WhatsApp Business Account") as caught:
        await listed(NOBODY, "meta", business_id=None)
    assert not caught.value.passing


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize(
    "fault",
    [
        {"action": "5xx", "status": 503},
        {"action": "429"},
        {"action": "hang", "seconds": 5},
        {"action": "drop_before"},
    ],
    ids=lambda fault: fault["action"],
)
async def test_a_provider_that_gives_no_list_may_give_one_later(
    stage: Stage, name: str, fault: dict[str, object]
) -> None:
    await stage.sandbox.faults({"provider": name, **fault})
    with pytest.raises(NoTemplateList) as caught:
        await listed(stage.base_url, name)
    assert caught.value.passing, caught.value.reason


@pytest.mark.parametrize("name", MADE)
async def test_a_provider_that_is_not_there_is_said_to_be(name: str) -> None:
    with pytest.raises(NoTemplateList, match="can't be reached") as caught:
        await listed(NOBODY, name)
    assert caught.value.passing


@pytest.mark.parametrize("name", ["kommo", "email"])
def test_others_have_no_templates_to_list(name: str) -> None:
    assert provider(name).list_templates is None


@pytest.mark.parametrize(
    ("api", "content"),
    [
        ("https://api.twilio.com", "https://content.twilio.com"),
        ("https://api.dublin.ie1.twilio.com", "https://content.dublin.ie1.twilio.com"),
        ("http://127.0.0.1:4010", "http://127.0.0.1:4010"),
        ("https://api.example.com", "https://api.example.com"),
    ],
)
def test_the_content_api_has_a_host_of_its_own(api: str, content: str) -> None:
    assert content_url(api) == content
