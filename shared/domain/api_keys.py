"""Keys of the management API: their form, their check digits, and what their scopes allow. No I/O.

`plm_` + 30 base62 characters + 6 base62 characters of the CRC-32 of all before them. The six refuse a mistyped key
without a query, and let scanners of leaked secrets recognise one. `_` makes a double click take the whole key.
"""

import hashlib
import secrets
import string
from collections.abc import Iterable
from typing import Final
from zlib import crc32

MARK: Final = "plm_"
ALL: Final = "*"  # the scope that holds every other one
LONGEST_SCOPE: Final = 64
_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM: Final = 30  # characters, 178 bits
_CHECK: Final = 6  # characters: 62^6 > 2^32
_PREFIX: Final = len(MARK) + 8  # characters by which a key is found and shown; 131 bits stay secret
LENGTH: Final = len(MARK) + _RANDOM + _CHECK


def new_key() -> str:
    """A key that no one has."""
    body = MARK + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return body + _check_digits(body)


def is_well_formed(key: str) -> bool:
    """Whether the form and the check digits are right; says nothing of whether anyone has this key."""
    if len(key) != LENGTH or not key.startswith(MARK) or not set(key[len(MARK) :]) <= set(_ALPHABET):
        return False
    return key[-_CHECK:] == _check_digits(key[:-_CHECK])


def prefix_of(key: str) -> str:
    """The beginning by which a key is found, and which may be shown."""
    return key[:_PREFIX]


def digest_of(key: str) -> bytes:
    """The SHA-256 of a key. It needs no salt and no slow hash: a key is random, and no password."""
    return hashlib.sha256(key.encode()).digest()


def allows(held: Iterable[str], wanted: str) -> bool:
    """Whether a key with the scopes `held` may do what needs the scope `wanted`."""
    scopes = frozenset(held)
    return ALL in scopes or wanted in scopes


def exceeding(held: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """The scopes of `wanted` that a key with the scopes `held` may not pass on, sorted."""
    scopes = frozenset(held)
    return sorted(scope for scope in set(wanted) if not allows(scopes, scope))


def _check_digits(text: str) -> str:
    number, digits = crc32(text.encode()), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
