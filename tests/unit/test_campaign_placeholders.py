"""The placeholders of campaigns: which there are, what a text says with values, and what it refuses."""

import time

import pytest

from shared.domain.campaigns import placeholders
from shared.domain.campaigns.placeholders import MOST_FIELDS, WrongPlaceholder

ANA = {"contact.name": "Ana", "contact.metadata.city": "Jerez", "data.code": "X1"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Hello {{contact.name}}!", "Hello Ana!"),
        ("{{contact.name}}{{contact.name}}", "AnaAna"),
        ("{{ contact.name }}, {{contact.name | you}}", "Ana, Ana"),
        ("{{contact.metadata.city}}: {{data.code}}", "Jerez: X1"),
        ("Dear {{contact.email|customer}}", "Dear customer"),
        ("Dear{{contact.email|}}.", "Dear."),
        ("{{contact.email|a|b}}", "a|b"),
        ("{{data.año nuevo|2027}}", "2027"),
        ("{{data.a.b|nested names are one key}}", "nested names are one key"),
        ("{{{contact.name}}}", "{Ana}"),
        ("{contact.name} costs {5} }{ € 3", "{contact.name} costs {5} }{ € 3"),
        ("no placeholder", "no placeholder"),
        ("", ""),
    ],
)
def test_a_text_says_it_with_the_recipients_values(text: str, says: str) -> None:
    assert placeholders.render(text, ANA) == says


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Hello {{1}}", "{{1}} is no placeholder."),
        ("Hello {{name}}", "{{name}} is no placeholder."),
        ("{{contact.password}}", "{{contact.password}} is no placeholder."),
        ("{{contact.metadata}}", "{{contact.metadata}} is no placeholder."),
        ("{{contact.metadata.}}", "{{contact.metadata.}} is no placeholder."),
        ("{{data.}}", "{{data.}} is no placeholder."),
        ("{{ }}", "{{}} is no placeholder."),
        ("{{|there}}", "{{}} is no placeholder."),
        ("{{Contact.Name}}", "{{Contact.Name}} is no placeholder."),
        ("{{data.a\x01}}", "{{data.a\x01}} is no placeholder."),
        ("{{data." + "k" * 101 + "}}", "{{data." + "k" * 95 + "…}} is no placeholder."),
        ("Hello {{contact.name}", "Double braces stand in it without a placeholder between them."),
        ("Hello {{contact.name", "Double braces stand in it without a placeholder between them."),
        ("Hello contact.name}}", "Double braces stand in it without a placeholder between them."),
        ("Hello {{}}", "Double braces stand in it without a placeholder between them."),
        ("{{contact.{{contact.name}}}}", "Double braces stand in it without a placeholder between them."),
        ("{{contact.name|{x}}}", "Double braces stand in it without a placeholder between them."),
        ("Hello\0{{contact.name}}", "The text holds a NUL character."),
        (
            "".join(f"{{{{data.k{n}}}}}" for n in range(MOST_FIELDS + 1)),
            f"The texts use {MOST_FIELDS + 1} different placeholders.",
        ),
    ],
)
def test_what_would_be_sent_unfilled_is_refused_with_a_remedy(text: str, reason: str) -> None:
    with pytest.raises(WrongPlaceholder) as refused:
        placeholders.used([text])
    assert refused.value.reason == reason
    assert refused.value.remedy


def test_a_value_that_looks_like_a_placeholder_stays_what_it_is() -> None:
    values = {"contact.name": "{{data.code}}", "data.code": "{{contact.name|x}}"}
    assert placeholders.render("{{contact.name}} {{data.code}}", values) == "{{data.code}} {{contact.name|x}}"


def test_a_field_is_needed_where_one_place_has_no_default() -> None:
    texts = ["{{contact.name|you}} {{data.code}}", "{{contact.name}}", "{{contact.email|-}}"]
    assert [(one.field.name, one.needed) for one in placeholders.used(texts)] == [
        ("contact.name", True),
        ("data.code", True),
        ("contact.email", False),
    ]
    assert placeholders.missing(texts, {"contact.name": "Ana"}) == ("data.code",)
    assert placeholders.missing(texts, ANA) == ()


def test_a_text_is_never_sent_without_a_value_that_it_needs() -> None:
    with pytest.raises(KeyError):
        placeholders.render("Hello {{contact.name}}", {})


@pytest.mark.parametrize(
    ("value", "variable"),
    [
        ("Ana  María\n\tLópez ", "Ana María López"),
        ("Ana\u2028López", "Ana López"),
        ("x" * 2000, "x" * 1024),
        (" \n", "-"),
    ],
)
def test_a_templates_variable_is_what_whatsapp_takes(value: str, variable: str) -> None:
    assert placeholders.variables({"1": "{{contact.name}}"}, {"contact.name": value}) == {"1": variable}


def test_a_variable_with_an_empty_default_is_not_blank() -> None:
    assert placeholders.variables({"1": "{{data.code|}}", "2": "Jerez"}, {}) == {"1": "-", "2": "Jerez"}


@pytest.mark.parametrize("hostile", ["{{" * 500_000, "{{a" * 300_000, "{{contact.name" * 70_000, "}}" * 500_000])
def test_a_huge_text_is_read_in_time_that_grows_with_its_length(hostile: str) -> None:
    began = time.process_time()
    with pytest.raises(WrongPlaceholder):
        placeholders.parse(hostile)
    assert time.process_time() - began < 1
