"""Encrypts secrets at rest: AES-256-GCM under keys from settings, readable tokens, rotation by sealing again.

A token is `v1.<key id>.<base64url of nonce and ciphertext>`. Its associated data are tenant, owner (the channel or
endpoint that the secret belongs to) and key id, so that a token copied into another row, by accident or by a person
with write access to the table, does not open there.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VARIABLE = "PALOMAR_SECRET_KEYS"
KEY_BYTES = 32
_NONCE_BYTES = 12  # what GCM is specified for; random ones are sound for 2**32 seals under one key (NIST SP 800-38D)
_VERSION = "v1"
_SIGNING = b"palomar: signatures of links"  # what the signing keys are derived for
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_REMEDY = (
    f"Set {VARIABLE} to `id:key`, the key being base64 of {KEY_BYTES} random bytes (`openssl rand -base64 {KEY_BYTES}`)"
)


class CryptoError(Exception):
    """A secret could not be sealed or opened. The text says why and what to do, and never holds key or secret."""


class KeysInvalid(CryptoError):
    """The configured keys are missing or malformed."""


class UnknownKey(CryptoError):
    """The token was sealed with a key that is not configured here."""


class TokenInvalid(CryptoError):
    """The token is malformed, was tampered with, or belongs to another row."""


@dataclass(frozen=True)
class KeyRing:
    """The configured keys. The first one seals, all of them open."""

    sealing_id: str
    _ciphers: Mapping[str, AESGCM] = field(repr=False)
    _signing_keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, configured: str) -> "KeyRing":
        """Read `id:base64,…` as `settings.secret_keys` has it; both base64 alphabets are taken.

        Raises KeysInvalid, naming the variable, the entry (by place or id) and the remedy.
        """
        entries = [entry.strip() for entry in configured.split(",") if entry.strip()]
        if not entries:
            raise KeysInvalid(f"{VARIABLE} is empty: no secret can be sealed or opened. {_REMEDY}.")
        ciphers: dict[str, AESGCM] = {}
        signing_keys: dict[str, bytes] = {}
        for place, entry in enumerate(entries, start=1):
            key_id, colon, encoded = entry.partition(":")
            if not colon or not _KEY_ID.fullmatch(key_id):
                raise KeysInvalid(f"{VARIABLE}: entry {place} has no id of letters, digits, - and _ . {_REMEDY}.")
            if key_id in ciphers:
                raise KeysInvalid(f"{VARIABLE}: key id {key_id!r} stands there twice. Give each key an id of its own.")
            key = _decode_key(key_id, encoded)
            ciphers[key_id] = AESGCM(key)
            signing_keys[key_id] = hmac.digest(key, _SIGNING, hashlib.sha256)
        return cls(next(iter(ciphers)), ciphers, signing_keys)

    def seal(self, secret: str, *, tenant_id: UUID | None, owner: UUID | str) -> str:
        """Return the token of a secret. `owner` is the channel's or endpoint's id; tenant None: it spans tenants."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self.sealing_id].encrypt(
            nonce, secret.encode(), _associated(tenant_id, owner, self.sealing_id)
        )
        return f"{_VERSION}.{self.sealing_id}.{base64.urlsafe_b64encode(nonce + sealed).decode().rstrip('=')}"

    def open(self, token: str, *, tenant_id: UUID | None, owner: UUID | str) -> str:
        """Return the secret of a token that was sealed for this tenant and owner.

        Raises UnknownKey if its key is not configured, TokenInvalid if it is damaged or belongs elsewhere.
        """
        key_id, sealed = _split(token)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnknownKey(
                f"sealed with key {key_id!r}, which is not in {VARIABLE} (it has: {', '.join(self._ciphers)}). "
                f"Add that key behind the others, or enter the secret again."
            )
        try:
            secret = cipher.decrypt(
                sealed[:_NONCE_BYTES],
                sealed[_NONCE_BYTES:],
                _associated(tenant_id, owner, key_id),
            )
        except InvalidTag:
            raise TokenInvalid(
                f"does not open with key {key_id!r}: the token is damaged, was moved from another tenant or owner, or "
                f"the key under this id was exchanged. Restore the key in {VARIABLE}, or enter the secret again."
            ) from None
        return secret.decode()

    def sign(self, text: str, *, purpose: str) -> str:
        """Return a signature of a text, to be checked by `is_signed`: 43 characters that may stand in a URL.

        It is made with a key that is derived from the sealing one, so that no signature says anything about secrets.
        """
        return self._signature(self.sealing_id, text, purpose)

    def is_signed(self, text: str, signature: str, *, purpose: str) -> bool:
        """Whether `sign` made this signature of this text for this purpose, under any of the keys; in constant time."""
        made = [self._signature(key_id, text, purpose) for key_id in self._signing_keys]
        return any(hmac.compare_digest(one.encode(), signature.encode(errors="replace")) for one in made)

    def _signature(self, key_id: str, text: str, purpose: str) -> str:
        signed = hmac.digest(self._signing_keys[key_id], f"{purpose}\0{text}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(signed).decode().rstrip("=")

    def reseal(self, token: str, *, tenant_id: UUID | None, owner: UUID | str) -> str:
        """Return the token under the sealing key: itself where it has that one already. Raises as `open`."""
        if _split(token)[0] == self.sealing_id:
            return token
        return self.seal(
            self.open(token, tenant_id=tenant_id, owner=owner),
            tenant_id=tenant_id,
            owner=owner,
        )


def _decode_key(key_id: str, encoded: str) -> bytes:
    try:
        key = base64.b64decode(encoded.strip().replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        raise KeysInvalid(f"{VARIABLE}: key {key_id!r} is not base64. {_REMEDY}.") from None
    if len(key) != KEY_BYTES:
        raise KeysInvalid(f"{VARIABLE}: key {key_id!r} has {len(key)} bytes instead of {KEY_BYTES}. {_REMEDY}.")
    return key


def _split(token: str) -> tuple[str, bytes]:
    """Key id, and nonce with ciphertext."""
    version, _, rest = token.partition(".")
    key_id, _, encoded = rest.partition(".")
    if version != _VERSION or not encoded:
        raise TokenInvalid("not a sealed secret: it should read `v1.<key id>.<base64>`. Enter the secret again.")
    try:
        sealed = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenInvalid("the sealed secret is not base64 behind its key id. Enter the secret again.") from None
    if len(sealed) <= _NONCE_BYTES:
        raise TokenInvalid("the sealed secret is cut short. Enter the secret again.")
    return key_id, sealed


def _associated(tenant_id: UUID | None, owner: UUID | str, key_id: str) -> bytes:
    """What a token is bound to. None of the parts can hold a NUL, so no two of them read alike."""
    return "\0".join((_VERSION, str(tenant_id or ""), str(owner), key_id)).encode()
