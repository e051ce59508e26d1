"""What messages cost, as tables: which market, which price, which day, and what has none."""

from datetime import date
from decimal import Decimal

import pytest

from shared.domain.campaigns.prices import (
    ANY,
    Amount,
    Charge,
    Forecast,
    Market,
    Rate,
    RateBook,
    country_of,
    currencies,
    expected_category,
    forecast,
    stated,
)
from shared.domain.model import ChannelKind

EARLIER, TODAY, LATER = date(2026, 7, 1), date(2026, 11, 28), date(2027, 1, 1)


def rate(
    market: str, category: str, price: str, *, provider: str = "meta", kind: ChannelKind = "whatsapp",
    since: date = EARLIER, currency: str = "USD",
) -> Rate:  # fmt: skip
    return Rate(provider, kind, market, category, since, Decimal(price), currency)


BOOK = RateBook(
    [
        rate("MX", "marketing", "0.0436"),
        rate("MX", "marketing", "0.0305", since=date(2026, 10, 1)),
        rate("MX", "marketing", "9", since=LATER),
        rate("MX", "utility", "0.0085"),
        rate("US", "utility", "0.0034"),
        rate("+1", "utility", "0.0099"),
        rate(ANY, "utility", "0.0077"),
        rate("*", "sms", "0.1", provider="twilio", kind="sms"),
        rate("US", "sms", "0.0083", provider="twilio", kind="sms"),
        rate("+1787", "sms", "0.05", provider="twilio", kind="sms"),
        rate("US", "fee", "0.003", provider="twilio", kind="sms"),
        rate("ES", "marketing", "0.0615", provider="twilio"),
        rate("*", "fee", "0.005", provider="twilio"),
        rate("*", "service", "0.01", provider="kommo", currency="USD"),
        rate("MX", "service", "0.01", provider="kommo", currency="MXN"),
    ]
)


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("+5215512345678", "MX"),
        ("+14155550123", "US"),
        ("+17875551234", "PR"),
        ("+77010001234", "KZ"),
        ("+34600123456", "ES"),
        ("+88816123456", ANY),  # of no country
        ("+1555", ANY),
        ("+", ANY),
        ("+99999999999999999999", ANY),
        ("ES.13491208655302741918", "ES"),
        ("ZZ.13491208655302741918", ANY),
        ("maria@example.com", ANY),
        ("es.maria@example.com", ANY),
        ("", ANY),
    ],
)
def test_the_country_of_an_address(address: str, country: str) -> None:
    assert country_of(address) == country


def test_a_market_is_as_exact_as_the_price_list() -> None:
    assert BOOK.market("+17875551234") == Market("PR", "+1787")
    assert BOOK.market("+14155550123") == Market("US", "+1")
    assert BOOK.market("+34600123456") == Market("ES")
    assert BOOK.market("maria@example.com") == BOOK.market(None) == Market(ANY)
    assert RateBook([]).market("+17875551234") == Market("PR")


@pytest.mark.parametrize(
    ("address", "category", "price"),
    [
        ("+525512345678", "utility", "0.0085"),
        ("+14155550123", "utility", "0.0034"),  # the country before its calling code
        ("+17875551234", "utility", "0.0099"),  # the calling code before the rest
        ("+34600123456", "utility", "0.0077"),
        ("+88816123456", "utility", "0.0077"),
        ("+525512345678", "service", "0.0085"),  # charged as utility
        ("+525512345678", "marketing_lite", "0.0305"),
        ("+34600123456", "marketing", None),
        ("+525512345678", "authentication", None),
    ],
)
def test_the_price_is_that_of_the_most_specific_market(address: str, category: str, price: str | None) -> None:
    found = BOOK.amount(Charge("meta", "whatsapp", category, BOOK.market(address)), TODAY)
    assert found == (None if price is None else Amount(Decimal(price), "USD"))


@pytest.mark.parametrize(
    ("day", "price"),
    [
        (date(2026, 6, 30), None),
        (EARLIER, "0.0436"),
        (date(2026, 9, 30), "0.0436"),
        (date(2026, 10, 1), "0.0305"),
        (date(2026, 12, 31), "0.0305"),
        (LATER, "9"),
    ],
)
def test_a_price_holds_from_its_day_until_the_next_one(day: date, price: str | None) -> None:
    found = BOOK.amount(Charge("meta", "whatsapp", "marketing", Market("MX")), day)
    assert found == (None if price is None else Amount(Decimal(price), "USD"))


@pytest.mark.parametrize(
    ("charge", "value"),
    [
        (Charge("twilio", "sms", "sms", Market("US", "+1"), units=3), "0.0279"),  # 3 × 0.0083 + the fee once
        (Charge("twilio", "sms", "sms", Market("PR", "+1787"), units=2), "0.10"),  # no fee there
        (Charge("twilio", "sms", "mms", Market("US", "+1")), None),
        (Charge("twilio", "whatsapp", "marketing", Market("ES")), "0.0665"),
        (Charge("twilio", "whatsapp", "service", Market("ES"), is_free=True), "0.005"),  # but for Twilio's fee
        (Charge("meta", "whatsapp", "service", Market("ES"), is_free=True), "0"),
        (Charge("meta", "whatsapp", "authentication", Market("ES"), is_free=True), "0"),  # free without a rate too
        (Charge("email", "email", "email", Market(ANY)), None),
        (Charge("kommo", "whatsapp", "service", Market("MX")), None),  # in two currencies: not added up
    ],
)
def test_units_fees_and_free_messages(charge: Charge, value: str | None) -> None:
    found = BOOK.amount(charge, TODAY)
    assert found == (None if value is None else Amount(Decimal(value), "USD"))


def test_a_forecast_adds_up_exactly_and_counts_what_has_no_rate() -> None:
    charges = {
        Charge("meta", "whatsapp", "marketing", Market("MX")): 1_000_000,
        Charge("meta", "whatsapp", "service", Market("US")): 3,
        Charge("meta", "whatsapp", "marketing", Market("ES")): 7,
    }
    found = forecast(BOOK, charges, TODAY)
    assert found.amounts == {"USD": Decimal("30500.0102")}
    assert (found.messages, found.without_rate) == (1_000_010, 7)
    assert forecast(RateBook([]), charges, TODAY).amounts == {}


def test_forecasts_of_pages_add_up() -> None:
    first = Forecast({"USD": Decimal("0.1")}, 10, 1)
    other = Forecast({"USD": Decimal("0.2"), "EUR": Decimal(1)}, 5, 0)
    assert Forecast() + first + other == Forecast({"USD": Decimal("0.3"), "EUR": Decimal(1)}, 15, 1)


def test_the_currencies_of_each_provider_are_found() -> None:
    found = currencies(
        [rate("*", "sms", "1"), rate("MX", "sms", "1", currency="MXN"), rate("*", "fee", "1", kind="sms")]
    )
    assert found == {("meta", "whatsapp"): {"USD", "MXN"}, ("meta", "sms"): {"USD"}}


@pytest.mark.parametrize(
    ("category", "type_", "billable", "expected"),
    [
        ("marketing", "regular", True, ("marketing", "regular", False)),
        ("service", "free_customer_service", None, ("service", "free_customer_service", True)),
        ("utility", None, False, ("utility", "", True)),
        ("utility", "'; --", None, ("utility", "", False)),
        ("Marketing", "regular", True, None),
        ("x" * 41, "regular", True, None),
        ("", "regular", True, None),
        (None, "regular", True, None),
    ],
)
def test_what_a_receipt_states(
    category: str | None, type_: str | None, billable: bool | None, expected: tuple[str, str, bool] | None
) -> None:
    found = stated(category, type_, billable)
    assert (None if found is None else (found.category, found.type, found.is_free)) == expected


@pytest.mark.parametrize(
    ("kind", "template", "has_files", "category"),
    [
        ("whatsapp", "UTILITY", False, "utility"),
        ("whatsapp", "marketing", True, "marketing"),
        ("whatsapp", "", False, "marketing"),
        ("whatsapp", "fee", False, "marketing"),
        ("whatsapp", None, False, "service"),
        ("sms", "marketing", False, "sms"),
        ("sms", None, True, "mms"),
        ("email", None, True, "email"),
    ],
)
def test_the_category_that_is_expected(kind: ChannelKind, template: str | None, has_files: bool, category: str) -> None:
    assert expected_category(kind, template=template, has_files=has_files) == category
