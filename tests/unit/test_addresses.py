"""One person is one contact however the networks write the number, and no two people share a contact."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.domain import addresses


def canonical(written: str) -> str | None:
    address = addresses.phone(written)
    return address.canonical if address else None


@pytest.mark.parametrize(
    ("one", "other", "canonical_form"),
    [
        pytest.param("+5215512345678", "+525512345678", "+525512345678", id="Mexico 521"),
        pytest.param("+5493515284577", "+543515284577", "+543515284577", id="Argentina 549"),
        pytest.param("+54351155284577", "+543515284577", "+543515284577", id="Argentina's domestic 15"),
        pytest.param("+558282136275", "+5582982136275", "+5582982136275", id="Brazil's ninth digit"),
        pytest.param("+551187654321", "+5511987654321", "+5511987654321", id="Brazil's ninth digit, Sao Paulo"),
        pytest.param("5215512345678", "+525512345678", "+525512345678", id="without plus, as Meta writes"),
        pytest.param("whatsapp:+5215512345678", "+525512345678", "+525512345678", id="with a scheme"),
        pytest.param("whatsapp: 5215512345678", "+525512345678", "+525512345678", id="a plus decoded to a space"),
        pytest.param("+52 1 55 1234-5678", "+525512345678", "+525512345678", id="with punctuation"),
        pytest.param("+44 (0)7700 900123", "+447700900123", "+447700900123", id="with a trunk zero"),
    ],
)
def test_two_ways_to_write_a_number_are_one_person(one: str, other: str, canonical_form: str) -> None:
    assert canonical(one) == canonical(other) == canonical_form


@pytest.mark.parametrize(
    "number",
    [
        pytest.param("+551133334444", id="a Brazilian landline stays a landline"),
        pytest.param("+551178334444", id="a Brazilian trunked radio number kept eight digits"),
        pytest.param("+525512345678", id="Mexico, folded already"),
        pytest.param("+5215512345", id="too short to be Mexico's 521"),
        pytest.param("+14155551212", id="United States"),
        pytest.param("+390612345678", id="Italy's zero belongs to the number"),
        pytest.param("+1234567890", id="a test number no country issued"),
        pytest.param("+99912345678", id="a country code that does not exist"),
    ],
)
def test_a_number_with_one_form_stays_as_it_is(number: str) -> None:
    assert canonical(number) == number


def test_what_was_given_is_kept_to_send_to() -> None:
    address = addresses.phone("whatsapp:+5215512345678")
    assert address is not None
    assert (address.kind, address.given) == ("phone", "+5215512345678")


def test_a_short_code_has_no_country() -> None:
    assert canonical("12345") == "12345"


@pytest.mark.parametrize(
    "written",
    ["", "+", "Foo", "+52 1 55 CALL", "12", "+" + "9" * 17, "9" * 100_000, "+٥٢١٥٥١٢٣٤٥٦٧٨", "+1\x00415",
     "messenger:123456789", "\ud800", "whatsapp:", "US.13491208655302741918", "+1415555²²²²", "--------"],
)  # fmt: skip
def test_what_is_no_number_is_none(written: str) -> None:
    assert addresses.phone(written) is None


@pytest.mark.parametrize(
    ("written", "kind", "canonical_form"),
    [
        ("whatsapp:US.13491208655302741918", "user_id", "US.13491208655302741918"),
        ("ID.4566546130240823", "user_id", "ID.4566546130240823"),
        ("US.ENT.11815799212886844830", "user_id", "US.ENT.11815799212886844830"),
        ("Foo", "user_id", "Foo"),
        ("whatsapp:+14155551212", "phone", "+14155551212"),
    ],
)
def test_somebody_may_be_a_number_an_id_or_a_sender_name(written: str, kind: str, canonical_form: str) -> None:
    address = addresses.person(written)
    assert address is not None
    assert (address.kind, address.canonical) == (kind, canonical_form)


def test_a_sender_name_is_no_user_id() -> None:
    assert addresses.user_id("Foo") is None


@pytest.mark.parametrize(
    ("number", "country"), [("+14155551212", "US"), ("+525512345678", "MX"), ("+99912345678", None), ("Foo", None)]
)
def test_region_of_a_number(number: str, country: str | None) -> None:
    assert addresses.region(number) == country


@pytest.mark.parametrize(
    ("canonical", "code"),
    [
        ("+34600000001", "+34"),
        ("+12025550123", "+1"),
        ("+35312345678", "+353"),
        ("+79001234567", "+7"),
        ("+99912345678", None),
        ("12345", None),
        ("+", None),
        ("ana@b.example", None),
    ],
)
def test_the_calling_code_of_a_number(canonical: str, code: str | None) -> None:
    assert addresses.calling_code(canonical) == code


def test_american_numbers_outside_the_united_states_are_known_by_their_area() -> None:
    areas = addresses.american_areas_outside_the_us()
    assert {"416", "604", "876", "809", "787"} <= set(areas)  # Canada, Jamaica, the Dominican Republic, Puerto Rico
    assert {"202", "212", "907", "808", "800", "200"}.isdisjoint(areas)


@pytest.mark.parametrize(
    ("written", "masked"),
    [
        ("+5215512345678", "+52***78"),
        ("whatsapp:US.13491208655302741918", "whatsapp:US.***18"),
        ("12345", "***"),
        ("", "***"),
    ],
)
def test_logs_show_too_little_to_call_anybody(written: str, masked: str) -> None:
    assert addresses.mask(written) == masked


@given(st.text() | st.from_regex(r"(whatsapp:)?\+?(52|54|55|31)[0-9 ]{0,14}", fullmatch=True))
@example("310000000")  # nothing but trunk zeros
def test_any_text_gives_an_address_or_none_and_a_canonical_form_is_stable(written: str) -> None:
    addresses.mask(written)
    addresses.user_id(written)
    address = addresses.person(written)
    if address is not None and address.kind == "phone":
        assert canonical(address.canonical) == address.canonical
