"""Canonical addresses: makes one person one contact, however a network writes the phone number or address. No I/O.

`canonical_phone` of the schema has the same rules in SQL; tests/schema/test_canonical_phone.py compares the two. The
rules read only digits: a library's tables of issued numbers change with each of its releases, and would change contacts
too.

- Prefixes that people dial within a country are removed where they can be nothing else: the trunk zero of
  `+44 (0) 7911 …`, Russia's 8, North America's 1.
- Mexico: `+52 1 XXXXXXXXXX` (WhatsApp) is `+52 XXXXXXXXXX`, the form of the numbering plan since 2019.
- Argentina: `+54 9 …` (WhatsApp, and E.164 of a mobile) is `+54 …`, and so is `+54 … 15 …`, as a mobile is dialled. A
  subscriber number is unique over mobiles and landlines, so no two numbers differ only by the 9 or the 15.
- Brazil: a mobile's `+55 DD XXXXXXXX` is `+55 DD 9XXXXXXXX`. The nine is added before 6 to 9, and never where the eight
  digits are a number of their own: landlines begin with 2 to 5, and the trunked radio ranges (70, 77 to 79) have eight.

We compare canonical forms, but store and send to the form that was given, in E.164: a provider may refuse either form.
"""

import re
from functools import cache, lru_cache

import phonenumbers

from shared.domain.model import Address

_SCHEME = re.compile(r"^\s*([a-z][a-z0-9_+.-]{0,31}):", re.IGNORECASE)
_BLANK = r" \t\n\r\f\v\xa0"
# After `messenger:` the digits are a page's id.
_PHONE = re.compile(
    rf"[{_BLANK}]*(?:(?:whatsapp|tel|sms|rcs):[{_BLANK}]*)?(\+?[0-9 ().\-]*[0-9().\-])[{_BLANK}]*",
    re.ASCII | re.IGNORECASE,
)
# A WhatsApp business-scoped user id: country, a dot, letters and digits (`US.1234…`, `US.ENT.1234…`).
_USER_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9._\-]{1,128}", re.ASCII)
# What carriers allow as an alphanumeric sender id: letters, digits, spaces, some punctuation.
_SENDER_ID = re.compile(r"[A-Za-z0-9 +\-_&.]{1,64}", re.ASCII)
# A mailbox address as in common use: no quoted local part, no comment, no address literal.
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

    Numbers are in international form: without `+`, 7 to 15 digits are a number with its country code (as Meta writes
    them), and 3 to 6 digits are a short code, whose canonical form has no `+`. Numbers that no country has issued stay
    as they are, for providers' test numbers are such. Only ASCII digits count. The `given` form is E.164 with `+`,
    without scheme and punctuation, and not folded: Meta's `5491123456789` is `+5491123456789`. In SQL: `phone_in_e164`.
    """
    return _phone(given) if len(given) <= _LONGEST_GIVEN else None  # so that the cache holds nothing long


@lru_cache(maxsize=8192)
def _phone(given: str) -> Address | None:
    found = _PHONE.fullmatch(given)
    if found is None:
        return None
    digits = "".join(filter(str.isdigit, found[1]))
    if not 3 <= len(digits) <= _LONGEST_E164 + 1:  # one more: `+44 (0) …` has a trunk zero that goes
        return None
    if len(digits) <= _LONGEST_SHORT_CODE and not found[1].startswith("+"):
        return Address("phone", digits, digits)
    canonical = f"+{_canonical(digits)}"
    if len(canonical) > _LONGEST_E164 + 1:
        return None
    return Address("phone", f"+{digits}" if digits in written_ways(canonical) else canonical, canonical)


def user_id(given: str) -> Address | None:
    """A WhatsApp business-scoped user id (`US.1234…`), with or without its scheme; None where it is none."""
    _, text = split_scheme(given[:256])
    return Address("user_id", text, text) if _USER_ID.fullmatch(text) else None


def email(given: str) -> Address | None:
    """An e-mail address, with or without `mailto:`; None where it is none. The canonical form is in lower case on both
    sides: no mailbox in common use distinguishes `Ana@` from `ana@`."""
    text = given[:400].strip()
    text = text[len("mailto:") :] if text[:7].lower() == "mailto:" else text
    return Address("email", text, text.lower()) if _MAILBOX.fullmatch(text) else None


def person(given: str) -> Address | None:
    """A sender's or recipient's address: a phone number, a user id, or else an alphanumeric sender id (`Foo`), which
    has the kind `user_id` because it has no number. None where it is none of them."""
    address = phone(given) or user_id(given)
    if address is None:
        _, text = split_scheme(given[:256])
        if _SENDER_ID.fullmatch(text):
            address = Address("user_id", text, text)
    return address


def region(canonical: str) -> str | None:
    """The country of a canonical number as ISO 3166 letters (`US`, `MX`); None where it has none."""
    try:
        return phonenumbers.region_code_for_number(phonenumbers.parse(canonical))
    except phonenumbers.NumberParseException:
        return None


def calling_code(canonical: str) -> str | None:
    """The country code of a canonical number, with its `+`: `+346…` → `+34`; None where it has none."""
    if canonical.startswith("+"):
        for length in (2, 3, 4):
            if canonical[1:length].isdecimal() and int(canonical[1:length]) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
                return canonical[:length]
    return None


@cache
def american_areas_outside_the_us() -> tuple[str, ...]:
    """The area codes of `+1` numbers that are not of the United States: Canada, the Caribbean, US territories.

    An area that no country has issued counts as one of the United States.
    """
    return tuple(str(area) for area in range(200, 1000) if region(f"+1{area}2345678") not in (None, "US"))


def written_ways(canonical: str) -> set[str]:
    """The digits in which a canonical number may have been written: `+525512345678` → `525512345678`, `5215512345678`.
    The inverse of the canonical form's folding."""
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

    An address shorter than eight characters becomes `***`.
    """
    scheme, text = split_scheme(given)
    hidden = f"{text[:3]}***{text[-2:]}" if len(text) >= 8 else "***"
    return f"{scheme}:{hidden}" if scheme else hidden


# The countries whose numbers are dialled with a zero before them at home, and never begin with one.
_TRUNK_ZERO = re.compile(
    r"(20|27|31|32|33|40|41|43|44|46|49|51|53|54|55|57|58|60|61|63|64|66|84|86|90|91|92|93|94|95|98|211|212|213|218|231|232"
    r"|233|234|243|249|251|252|254|255|256|260|261|262|263|264|265|291|353|355|358|370|373|374|377|380|381|382|383|385|386"
    r"|387|389|421|423|508|590|591|593|594|595|596|686|850|855|856|880|886|961|962|963|964|966|967|970|971|972|976|977|994"
    r"|995|996)0([1-9][0-9]*)"
)
# Each pattern matches a whole number, and no result of another pattern.
_FOLDED = (
    (re.compile(r"1(1[2-9][0-9]{9})"), r"\1"),
    (re.compile(r"(7)8([0-9]{10})"), r"\1\2"),
    (re.compile(r"(52)1([1-9][0-9]{9})"), r"\1\2"),
    (re.compile(r"(54)9([1-9][0-9]{9})"), r"\1\2"),
    # Argentina's area codes have two to four digits; of these, three.
    (re.compile(r"(5411)15([0-9]{8})"), r"\1\2"),
    (
        re.compile(
            r"(54(?:22[01]|223|23[067]|249|26[01346]|280|29[14789]|336|34[1-358]|35[138]|36[24]|37[069]|38[013578]))15"
            r"([0-9]{7})"
        ),
        r"\1\2",
    ),
    (re.compile(r"(54[23][0-9]{3})15([0-9]{6})"), r"\1\2"),
    (re.compile(r"(55[1-9][1-9])((?:[689][0-9]|7[1-6])[0-9]{6})"), r"\g<1>9\2"),
)


def _canonical(digits: str) -> str:
    """The canonical digits of a number with its country code."""
    if (found := _TRUNK_ZERO.fullmatch(digits)) is not None:
        digits = found[1] + found[2]
    for pattern, instead in _FOLDED:
        if (found := pattern.fullmatch(digits)) is not None:
            return found.expand(instead)
    return digits
