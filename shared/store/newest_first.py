"""The SQL of a page of rows, newest first, that begins behind a row's `created_at` and `id` (keyset)."""

from datetime import datetime
from uuid import UUID

Position = tuple[datetime, UUID]
"""Where a page ended: created_at and id of its last row."""


def behind(first: int) -> str:
    """The end of a statement's WHERE, its order and its limit, where $first and the two parameters after it are
    created_at and id, both null for the first page, and the limit."""
    return f"""
    AND (created_at, id)
        < (coalesce(${first}, 'infinity'::timestamptz),
            coalesce(${first + 1}, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
ORDER BY created_at DESC, id DESC LIMIT ${first + 2}
"""
