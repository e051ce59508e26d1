"""A channel's settings: what is wrong is named with its field, and templates are filled as networks take them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.database import new_id
from shared.domain.channels import LIMIT, Channel, ChannelSettings, TemplateSettings, read_settings
from workers.send.unknown_lookup import policy_of


def test_everything_has_a_default() -> None:
    assert read_settings({}) == ChannelSettings()
    assert read_settings({}).window.policy == "hold"
    assert read_settings({}).unknown is None


@pytest.mark.parametrize(
    ("provider", "raw", "policy"),
    [
        ("twilio", {}, "resend_if_absent"),
        ("twilio", {"unknown": "give_up"}, "give_up"),
        ("twilio", {"unknown": "ask"}, "ask"),
        ("meta", {}, "give_up"),
        ("kommo", {}, "give_up"),
        ("email", {"unknown": "ask"}, "ask"),
    ],
)
def test_only_where_a_list_tells_of_all_is_a_message_sent_anew_by_default(
    provider: str, raw: dict[str, str], policy: str
) -> None:
    channel = Channel(
        id=new_id(),
        tenant_id=new_id(),
        endpoint_id=None,
        provider=provider,
        kind="whatsapp",
        address="+14155238886",
        status="active",
        settings=read_settings(raw),
        updated_at=datetime.now(UTC),
    )
    assert policy_of(channel) == policy


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": "fast"}, "rate"),
        ({"rate": 5000}, "rate"),
        ({"unknown": "resend"}, "unknown"),
        ({"window": {"policy": "wait"}}, "window.policy"),
        ({"window": {"hold_for": -1}}, "window.hold_for"),
        ({"window": {"expiring_minutes": 1439}}, "window.expiring_minutes"),
        ({"window": {"template": {}}}, "window.template.name"),
        ({"window": {"template": {"name": ""}}}, "window.template.name"),
        ({"window": {"template": {"name": "HX1", "variables": {"1": "x" * 2000}}}}, "window.template.variables.1"),
        ({"reply": {"engine": "magic"}}, "reply.engine"),
        ({"reply": {"debounce": 61}}, "reply.debounce"),
        ({"reply": {"longest_wait": -1}}, "reply.longest_wait"),
        ({"reply": {"greeting": ""}}, "reply.greeting"),
        ({"reply": {"greeting": " \u200b\n"}}, "reply.greeting"),
        ({"reply": {"greeting": "x" * (LIMIT + 1)}}, "reply.greeting"),
        ({"reply": {"rules": [{"patterns": [], "answer": "x"}]}}, "reply.rules.0.patterns"),
        ({"reply": {"rules": [{"patterns": ["a"], "answer": ""}]}}, "reply.rules.0.answer"),
        ({"reply": {"llm": {"history": 0}}}, "reply.llm.history"),
        ({"reply": {"llm": {"timeout": 600}}}, "reply.llm.timeout"),
        (
            {"window": {"template": {"name": "x", "variables": dict.fromkeys(map(str, range(101)), "x")}}},
            "window.template.variables",
        ),
        ({"replies": {}}, "replies"),
        ({"reply": {"llm": {"base_url": "http://169.254.169.254"}}}, "reply.llm.base_url"),
        ({"reply": {"llm": {"api_key": "sk-1"}}}, "reply.llm.api_key"),
    ],
)
def test_a_mistake_is_named_by_its_field(raw: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=rf"(^|[ ;]){field.replace('.', r'[.]')}: "):
        read_settings(raw)


def test_a_mistake_is_named_without_the_value() -> None:
    with pytest.raises(ValueError, match="rate") as caught:
        read_settings({"rate": "geheim", "reply": {"llm": {"api_key": "sk-geheim"}}})
    assert "geheim" not in str(caught.value)


def test_several_mistakes_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"(rate: .*unknown: )|(unknown: .*rate: )"):
        read_settings({"rate": 0, "unknown": "maybe"})


def test_greeting_and_menu_together_must_fit_one_message() -> None:
    with pytest.raises(ValueError, match=r"greeting with menu_prompt and menu is \d+ characters; shorten them to 1600"):
        read_settings({"reply": {"greeting": "x" * 1500, "menu": ["y" * 190] * 5}})


@pytest.mark.parametrize(
    ("value", "name", "text", "filled"),
    [
        ("Hola {contact_name}", "Ana", "x", "Hola Ana"),
        ("{text}", "Ana", "dos\nlíneas\t y  más", "dos líneas y más"),
        ("{contact_name}", None, "x", "-"),  # a template takes no blank variable
        ("{contact_name}, {text}", "Ana", "hola", "Ana, hola"),
        ("{unknown} {}", "Ana", "hola", "{unknown} {}"),
        ("fijo", None, "x", "fijo"),
        ("{text}", "Ana", "x" * 2000, "x" * 1024),
        ("{text}", "Ana", "", "-"),
    ],
)
def test_variables_of_a_template_are_filled(value: str, name: str | None, text: str, filled: str) -> None:
    template = TemplateSettings(name="HX1", variables={"1": value}).filled(contact_name=name, text=text)
    assert (template.name, template.variables) == ("HX1", {"1": filled})


@pytest.mark.parametrize(
    ("name", "text"), [("{text}", "secreto"), ("{contact_name}", "x"), ("{0.__class__}", "{contact_name}")]
)
def test_what_a_customer_is_called_or_says_is_no_placeholder(name: str, text: str) -> None:
    """Filling is one pass: a name that looks like a placeholder stays what it is."""
    template = TemplateSettings(name="HX1", variables={"1": "{contact_name}|{text}"})
    assert template.filled(contact_name=name, text=text).variables == {"1": f"{name}|{text}"}
