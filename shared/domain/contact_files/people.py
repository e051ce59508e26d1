"""Reads a row's cells as a person: addresses in their canonical forms, name, groups. No I/O."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, ValidationResult

from shared.domain import addresses
from shared.domain.contact_files.defects import LONGEST_NAME, MOST_GROUPS_OF_A_ROW, Defect, Field
from shared.domain.contact_files.rows import Cells
from shared.domain.model import Address

COUNTRIES: Final = frozenset(phonenumbers.SUPPORTED_REGIONS)  # as ISO 3166 writes them: `MX`

_LONGEST_NUMBER: Final = 64  # characters, as contacts.create takes it
_LETTER: Final = re.compile(r"[^\W\d_]")
_BETWEEN_GROUPS: Final = re.compile(r"[;|]")
_TRUTH: Final = {"true": True, "yes": True, "1": True, "sí": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class ImportedPerson:
    """What a row says of a person. None: it says nothing of that."""

    phone: Address | None = None
    email: Address | None = None
    name: str | None = None
    is_active: bool | None = None
    groups: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Of these, there is at least one."""
        return tuple(one for one in (self.phone, self.email) if one is not None)


class _Wrong(Exception):
    """A cell holds what it may not; the argument is a defect's code."""


def read(line: int, cells: Cells, country: str | None) -> ImportedPerson | tuple[Defect, ...]:
    """The person of a row, or everything that is wrong with it. `country` is that of numbers without a country code."""
    read_cells: dict[Field, Any] = {}
    defects = []
    for field, reading in _READINGS.items():
        try:
            read_cells[field] = reading(cells.get(field), country)
        except _Wrong as wrong:
            defects.append(Defect(line, field, str(wrong)))
    if defects:
        return tuple(defects)
    person = ImportedPerson(*read_cells.values())
    return person if person.addresses else (Defect(line, None, "no_address"),)


def phone(text: str, country: str | None) -> Address:
    """The number that a text holds, in E.164. Raises _Wrong.

    Whether its length fits its country is asked, of its canonical form too (+52 1 … is no number of Mexico's any more,
    but WhatsApp's), and not whether the country has issued it: such tables change.
    """
    _, number = addresses.split_scheme(text)
    if len(number) > _LONGEST_NUMBER or _LETTER.search(number):  # a spreadsheet's 5.2E+12 is no number with letters
        raise _Wrong("phone_number")
    if country is None and not number.startswith(("+", "\uff0b")):
        raise _Wrong("no_country")
    try:
        parsed = phonenumbers.parse(number, country)
    except NumberParseException:
        raise _Wrong("phone_number") from None
    found = addresses.phone(f"+{parsed.country_code}{phonenumbers.national_significant_number(parsed)}")
    if found is None or not (_is_possible(parsed) or _is_possible(phonenumbers.parse(found.canonical))):
        raise _Wrong("phone_number")
    return found


def _is_possible(number: PhoneNumber) -> bool:
    return phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE


def _phone(given: Any, country: str | None) -> Address | None:
    text = _text(given)
    return phone(text, country) if text else None


def _email(given: Any, _: str | None) -> Address | None:
    text = _text(given)
    if not text:
        return None
    found = addresses.email(text)
    if found is None:
        raise _Wrong("email")
    return found


def _name(given: Any, _: str | None) -> str | None:
    text = _text(given)
    if len(text) > LONGEST_NAME:
        raise _Wrong("too_long_name")
    return text or None


def _is_active(given: Any, _: str | None) -> bool | None:
    if given is None or isinstance(given, bool):
        return given
    text = _text(given).casefold()
    if text and text not in _TRUTH:
        raise _Wrong("no_truth")
    return _TRUTH.get(text)


def _groups(given: Any, _: str | None) -> tuple[str, ...]:
    names = [_text(one) for one in given] if isinstance(given, list) else _BETWEEN_GROUPS.split(_text(given))
    found = tuple(dict.fromkeys(filter(None, (name.strip() for name in names))))
    if len(found) > MOST_GROUPS_OF_A_ROW or any(len(name) > LONGEST_NAME for name in found):
        raise _Wrong("groups")
    return found


def _text(given: Any) -> str:
    if given is None:
        return ""
    if not isinstance(given, str):
        raise _Wrong("no_text")
    if "\0" in given:  # as JSON writes it; PostgreSQL can't store it
        raise _Wrong("nul")
    return given.strip()


# In the order of ImportedPerson's members.
_READINGS: Final[Mapping[Field, Callable[[Any, str | None], Any]]] = {
    "phoneNumber": _phone,
    "email": _email,
    "name": _name,
    "isActive": _is_active,
    "groups": _groups,
}
