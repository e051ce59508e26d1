"""One person is one contact by SQL and by webhook: canonical_phone is shared/domain/addresses.py, number by number."""

from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Final

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from shared.domain import addresses
from tests.schema.people import as_worker

TYPES: Final = tuple(value for name, value in vars(PhoneNumberType).items() if name.isupper())
BRAZILIAN_AREAS: Final = (11, 19, 21, 28, 31, 38, 47, 51, 55, 61, 69, 73, 79, 82, 85, 91, 99, 20, 10)
ODD: Final = (
    "", "+", "12", "123", "123456", "+123456", "1234567", "+" + "9" * 15, "+" + "9" * 16, "9" * 17, "310000000",
    "+44 (0) 7911 123456", "+44(0)7911123456", "+4407911123456", "440" + "9" * 13, "+440" + "9" * 13,
    "whatsapp:+5215512345678", "WhatsApp: 5215512345678", "tel:+1-415-555-1212", "sms: 12345", "rcs:+14155551212",
    "messenger:14155551212", "+1 1 415 555 1212", "+7 8 912 345-67-89", "\xa0+34 600 000 000\xa0",
    "\t+34600000000\n", "+34 600 000 000.", "34-600-000-000 ", "+34 600 x", "++34600000000", "34+600000000",
    "+34\xa0600000000", "+٣٤٦٠٠", "--------", " " * 60 + "34600", "34600000000" + " " * 60, "(55) 11 98765-4321",
    "+54351155284577", "+54 0351 15 528-4577", "+541115 12345678", "+54 2202 15 123456", "+54 9 11 1234 5678",
    "+54902345678901", "+52 1 055 1234 567", "+521" + "0" * 10, "+549" + "0" * 10, "+5511087654321",
    "+55 (0) 11 8765-4321", "Ana", "US.1349", "\u017fms:+34600000000",
)  # fmt: skip


def examples() -> Iterator[str]:
    """Every country's example numbers of every kind, as they are written in E.164, at home behind the country's code,
    and with a trunk zero."""
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in TYPES:
            if (number := phonenumbers.example_number_for_type(region, kind)) is None:
                continue
            yield phonenumbers.format_number(number, PhoneNumberFormat.E164)
            yield phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
            national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
            yield f"+{number.country_code} {national}"
            yield f"+{number.country_code} (0) {phonenumbers.national_significant_number(number)}"


def folded() -> Iterator[str]:
    """The numbers of the three countries whose mobiles are written in two ways, and those beside them."""
    draw = Random(1)
    for area, first in product(BRAZILIAN_AREAS, range(10)):
        for second in range(10):
            rest = f"{draw.randrange(10**6):06}"
            yield f"+55{area}{first}{second}{rest}"
            yield f"+55{area}9{first}{second}{rest}"
            yield f"550{area}{first}{second}{rest}"
    for prefix, length in product(
        ("52", "521", "5201", "54", "549", "540", "5411", "541115", "543511", "5435115"), range(7, 12)
    ):
        for _ in range(60):
            yield f"+{prefix}{draw.randrange(10**length):0{length}}"
    for area in range(2200, 3900):
        yield f"+54{area}15{draw.randrange(10**6):06}"
        yield f"+54{area}1{draw.randrange(10**7):07}"


def canonical(written: str) -> str | None:
    found = addresses.phone(written)
    return found.canonical if found is not None else None


def test_sql_and_python_make_the_same_of_every_number(database_url: str) -> None:
    written = list(dict.fromkeys((*ODD, *examples(), *folded())))
    with as_worker(database_url) as worker:
        rows = worker.execute(
            "SELECT given, canonical_phone(given) FROM unnest(%s::text[]) AS given", (written,)
        ).fetchall()
    assert len(rows) == len(written) > 10_000
    differing = {given: (by_sql, canonical(given)) for given, by_sql in rows if by_sql != canonical(given)}
    assert differing == {}


def test_a_number_that_a_country_gave_out_stays_that_number() -> None:
    """No rule takes one subscriber for another: of all example numbers only the folded ones change."""
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in TYPES:
            if (number := phonenumbers.example_number_for_type(region, kind)) is not None:
                e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
                assert region in ("AR", "BR", "MX") or canonical(e164) == e164, (region, kind)


@pytest.mark.parametrize("area", BRAZILIAN_AREAS[:10])
def test_brazils_ninth_digit_is_the_same_person_and_a_trunked_radio_its_own(area: int) -> None:
    for start in ("60", "69", "71", "76", "80", "89", "90", "99"):
        assert (
            canonical(f"+55{area}{start}123456")
            == canonical(f"55 {area} 9{start}12-3456")
            == f"+55{area}9{start}123456"
        )
    for start in ("20", "39", "50", "70", "77", "78", "79"):
        assert canonical(f"+55{area}{start}123456") == f"+55{area}{start}123456"
