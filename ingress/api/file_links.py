"""Links by which anyone who has one downloads one file for a while: signed, with the moment at which they expire.

`/files/TENANT/FILE?expires=UNIX_TIME&signature=…`. No I/O.
"""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from shared.crypto import KeyRing

FILES: Final = "files"  # the first step of the path
_PURPOSE: Final = "file"


def link(keys: KeyRing, base: str, tenant_id: UUID, media_id: UUID, expires_at: datetime) -> str:
    """A link; only its path where `base`, the API's address, is empty."""
    expires = int(expires_at.timestamp())
    signature = keys.sign(_signed(tenant_id, media_id, expires), purpose=_PURPOSE)
    return f"{base.rstrip('/')}/{FILES}/{tenant_id}/{media_id}?expires={expires}&signature={signature}"


def is_valid(keys: KeyRing, tenant_id: UUID, media_id: UUID, expires: int, signature: str, now: datetime) -> bool:
    """Whether we made this link, and it has not expired."""
    ours = keys.is_signed(_signed(tenant_id, media_id, expires), signature, purpose=_PURPOSE)
    return ours and now.astimezone(UTC).timestamp() < expires


def _signed(tenant_id: UUID, media_id: UUID, expires: int) -> str:
    return f"{tenant_id}/{media_id}/{expires}"
