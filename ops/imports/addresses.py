"""Reads phone numbers and e-mail addresses as a source writes them. No I/O."""

from typing import Final

from shared.domain import addresses
from shared.domain.model import Address

_EMAIL_PARTS: Final = 2


def phone(given: str | None) -> Address | None:
    """A number, None for what is none."""
    return None if given is None else addresses.phone(given)


def email(given: str | None) -> Address | None:
    """An e-mail address, None for what is none. Its canonical form is in lower case."""
    text = (given or "").strip()
    parts = text.split("@")
    if len(parts) != _EMAIL_PARTS or not all(parts) or len(text) > 254 or any(map(str.isspace, text)):
        return None
    return Address("email", text, text.lower())
