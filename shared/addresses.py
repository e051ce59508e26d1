"""Canonical addresses: one person is one contact, however the networks write the number. Pure.

WhatsApp and the carriers write some countries' mobile numbers in two ways, both of which arrive and both of which
may be refused as a recipient. We compare the canonical form, and store and send to the form that was given, in E.164:

- Mexico: `+52 1 XXXXXXXXXX` (WhatsApp) is `+52 XXXXXXXXXX`, the form of the numbering plan since 2019.
- Argentina: `+54 9 …` (WhatsApp, and E.164 of a mobile) is `+54 …`. A subscriber number is unique over mobiles and
  landlines, so the 9 tells nothing two numbers would differ by.
- Brazil: a mobile's `+55 DD XXXXXXXX` is `+55 DD 9XXXXXXXX`. The nine goes in only before 6 to 9, only where that makes
  a valid mobile number, and never where the eight digits are a number of their own: landlines begin with 2 to 5, and
  the trunked radio ranges (70, 77 to 79) kept eight digits.
"""

import re
from functools import lru_cache

import phonenumbers

from shared.providers.base import Address

_SCHEME = re.compile(r"^\s*([a-z][a-z0-9_+.-]{0,31}):", re.IGNORECASE)
_SCHEMES_OF_PHONES = ("", "whatsapp", "tel", "sms", "rcs")  # behind `messenger:` digits are a page's id
_DIALLED = re.compile(r"\+?[0-9 ().\-]+", re.ASCII)
# A WhatsApp business-scoped user id: country, a dot, letters and digits (`US.1234…`, `US.ENT.1234…`).
_USER_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9._\-]{1,128}", re.ASCII)
# What a carrier lets stand as an alphanumeric sender: letters, digits, spaces, a little punctuation.
_SENDER_ID = re.compile(r"[A-Za-z0-9 +\-_&.]{1,64}", re.ASCII)
# An address of a mailbox as anybody uses it: no quoted local part, no comment, no address literal.
_MAILBOX = re.compile(r"[^\s\x00-\x1f\x7f\"(),:;<>@\[\\\]]{1,64}@[^\s\x00-\x1f\x7f\"(),:;<>@\[\\\]]{1,253}")
_LONGEST_GIVEN = 64
_LONGEST_SHORT_CODE = 6
_LONGEST_E164 = 15


def split_scheme(given: str) -> tuple[str, str]:
    """`whatsapp:+52…` → (`whatsapp`, `+52…`); the scheme is lower-case, and empty where there is none."""
    found = _SCHEME.match(given)
    return (found[1].lower(), given[found.end() :].strip()) if found else ("", given.strip())


def phone(given: str) -> Address | None:
    """A phone number or short code, with or without a scheme, `+` and punctuation; None where it is neither.

    Takes international form: without `+`, 7 to 15 digits are a number with its country code (Meta writes them so)
    and 3 to 6 are a short code, whose canonical form has no `+`. Numbers that no country issued stand as they are:
    providers' test numbers are such. Only ASCII digits count. What is `given` of a number is E.164 with `+`, without
    scheme and punctuation, and not folded: Meta's `5491123456789` is `+5491123456789`. SQL's is `phone_in_e164`.
    """
    return _phone(given) if len(given) <= _LONGEST_GIVEN else None  # nothing long is remembered


@lru_cache(maxsize=8192)
def _phone(given: str) -> Address | None:
    scheme, text = split_scheme(given)
    if scheme not in _SCHEMES_OF_PHONES or not _DIALLED.fullmatch(text):
        return None
    digits = "".join(filter(str.isdigit, text))
    if not 3 <= len(digits) <= _LONGEST_E164 + 1:  # one more: `+44 (0) …` has a trunk zero that goes
        return None
    if len(digits) <= _LONGEST_SHORT_CODE and not text.startswith("+"):
        return Address("phone", digits, digits)
    canonical = _canonical(digits)
    if len(canonical) > _LONGEST_E164 + 1:
        return None
    return Address("phone", f"+{digits}" if digits in written_ways(canonical) else canonical, canonical)


def user_id(given: str) -> Address | None:
    """A WhatsApp business-scoped user id (`US.1234…`), with or without its scheme; None where it is none."""
    _, text = split_scheme(given[:256])
    return Address("user_id", text, text) if _USER_ID.fullmatch(text) else None


def email(given: str) -> Address | None:
    """An e-mail address, with or without `mailto:`; None where it is none. Canonical in lower case, both halves: no
    mailbox that anybody uses tells `Ana@` from `ana@`."""
    text = given[:400].strip()
    text = text[len("mailto:") :] if text[:7].lower() == "mailto:" else text
    return Address("email", text, text.lower()) if _MAILBOX.fullmatch(text) else None


def person(given: str) -> Address | None:
    """Whoever wrote or is written to: a phone number, a user id, or else an alphanumeric sender id (`Foo`), which
    has the kind `user_id` because no number stands behind it. None for what is none of them."""
    address = phone(given) or user_id(given)
    if address is None:
        _, text = split_scheme(given[:256])
        if _SENDER_ID.fullmatch(text):
            address = Address("user_id", text, text)
    return address


def region(canonical: str) -> str | None:
    """The country of a canonical number as ISO 3166 letters (`US`, `MX`); None where it tells none."""
    try:
        return phonenumbers.region_code_for_number(phonenumbers.parse(canonical))
    except phonenumbers.NumberParseException:
        return None


def written_ways(canonical: str) -> set[str]:
    """The digits under which one person's canonical number may have been written: `+525512345678` → `525512345678`,
    `5215512345678`. The inverse of what the canonical form folds."""
    digits = canonical.removeprefix("+")
    ways = {digits}
    if re.fullmatch(r"52\d{10}", digits):
        ways.add("521" + digits[2:])
    elif re.fullmatch(r"54\d{10}", digits):
        ways.add("549" + digits[2:])
    elif re.fullmatch(r"55\d{2}9\d{8}", digits):
        ways.add(digits[:4] + digits[5:])
    return ways


def mask(given: str) -> str:
    """For logs: `+5215512345678` → `+52***78`, `whatsapp:US.13491208655302741918` → `whatsapp:US.***18`.

    What is shorter than eight characters says nothing but `***`.
    """
    scheme, text = split_scheme(given)
    hidden = f"{text[:3]}***{text[-2:]}" if len(text) >= 8 else "***"
    return f"{scheme}:{hidden}" if scheme else hidden


@lru_cache(maxsize=8192)
def _canonical(digits: str) -> str:
    """E.164 of a number given with its country code, folded where the networks write it in two ways."""
    try:
        number = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException:
        return "+" + digits
    national = phonenumbers.national_significant_number(number)
    match number.country_code, len(national):
        case 52, 11 if national[0] == "1":
            return "+52" + national[1:]
        case 54, 11 if national[0] == "9":
            return "+54" + national[1:]
        case 55, 10 if national[2] in "6789":
            return _brazilian(national)
    plain = f"{number.country_code}{national}"
    # One trunk zero goes. Each parse would take another one, and make all numbers of nothing but zeros the same.
    return f"+{plain}" if plain == digits or _canonical(plain) == f"+{plain}" else f"+{digits}"


def _brazilian(national: str) -> str:
    with_nine = f"+55{national[:2]}9{national[2:]}"
    is_own_number = phonenumbers.is_valid_number(phonenumbers.parse("+55" + national))
    if not is_own_number and phonenumbers.is_valid_number(phonenumbers.parse(with_nine)):
        return with_nine
    return "+55" + national
