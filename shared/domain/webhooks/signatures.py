"""Signs deliveries as Standard Webhooks has it: HMAC-SHA256 (`v1`) and Ed25519 (`v1a`). No I/O.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECRET: Final = "whsec_"
PRIVATE_KEY: Final = "whsk_"
PUBLIC_KEY: Final = "whpk_"
SEED_BYTES: Final = 32  # of an Ed25519 key; some libraries write the public key behind it


@dataclass(frozen=True, slots=True)
class Signer:
    """What signs one webhook's deliveries: the current secret and key first, then the former ones while they last."""

    _secrets: tuple[bytes, ...] = field(repr=False)
    _private_keys: tuple[Ed25519PrivateKey, ...] = field(repr=False)

    @classmethod
    def of(cls, secrets: Sequence[str], private_keys: Sequence[str] = ()) -> Self:
        """Empty ones are left out. Raises ValueError for a private key that is none."""
        return cls(
            tuple(secret_bytes(secret) for secret in secrets if secret),
            tuple(private_key(text) for text in private_keys if text),
        )

    def __bool__(self) -> bool:
        """Whether there is anything to sign with."""
        return bool(self._secrets or self._private_keys)

    def signature(self, webhook_id: str, timestamp: int, body: bytes) -> str:
        """The value of `webhook-signature`: signatures with a blank between them. All of one scheme stand together."""
        signed = signed_content(webhook_id, timestamp, body)
        found = [("v1", hmac.digest(secret, signed, hashlib.sha256)) for secret in self._secrets]
        found += [("v1a", key.sign(signed)) for key in self._private_keys]
        return " ".join(f"{version},{b64encode(signature).decode()}" for version, signature in found)

    def headers(self, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The headers of an attempt that starts at this Unix time; without a signature where nothing signs."""
        headers = {"webhook-id": webhook_id, "webhook-timestamp": str(timestamp)}
        if self:
            headers["webhook-signature"] = self.signature(webhook_id, timestamp, body)
        return headers


def sign(secrets: Sequence[str], private_keys: Sequence[str], webhook_id: str, timestamp: int, body: bytes) -> str:
    """As `Signer.signature`, for one delivery."""
    return Signer.of(secrets, private_keys).signature(webhook_id, timestamp, body)


def signed_content(webhook_id: str, timestamp: int, body: bytes) -> bytes:
    """What is signed. Raises ValueError for an id with a full stop in it, which would leave open where the id ends."""
    if "." in webhook_id:
        raise ValueError("the id of a webhook holds no full stop")
    return b"%s.%d.%s" % (webhook_id.encode(), timestamp, body)


def secret_bytes(secret: str) -> bytes:
    """The key that a secret stands for: base64 behind `whsec_`, else its own UTF-8 bytes.

    A secret that a tenant wrote by SQL, or that came with an import, may be any text.
    """
    if secret.startswith(SECRET):
        try:
            return b64decode(secret.removeprefix(SECRET), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


def private_key(text: str) -> Ed25519PrivateKey:
    """The key of `whsk_…`. Raises ValueError, which never holds the key."""
    try:
        raw = b64decode(text.removeprefix(PRIVATE_KEY), validate=True)
    except binascii.Error:
        raise ValueError(f"a private key is {PRIVATE_KEY} and base64") from None
    if not text.startswith(PRIVATE_KEY) or len(raw) not in (SEED_BYTES, 2 * SEED_BYTES):
        raise ValueError(f"a private key is {PRIVATE_KEY} and base64 of {SEED_BYTES} bytes")
    return Ed25519PrivateKey.from_private_bytes(raw[:SEED_BYTES])


def public_key(private: str) -> str:
    """`whpk_…`, by which signatures of `whsk_…` are verified. Raises ValueError as `private_key`."""
    return PUBLIC_KEY + b64encode(private_key(private).public_key().public_bytes_raw()).decode()
