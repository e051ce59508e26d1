"""The SQL of a page of rows, newest first, that begins behind a row's `created_at` and `id` (keyset)."""

from datetime import datetime
from typing import Literal
from uuid import UUID

Position = tuple[datetime, UUID]
"""Where a page ended: created_at and id of its last row."""


def time_or(end: Literal["infinity", "-infinity"], place: int) -> str:
    """SQL of the moment $place, or of an end of time where it is null.

    CASE and not COALESCE: as palomar_api a condition is looked up in an index only where no part of it could show
    another tenant's row before row level security hides it (leakproof), and PostgreSQL does not know that of COALESCE.
    A page would read all that lies before it.
    """
    return f"CASE WHEN ${place}::timestamptz IS NULL THEN '{end}' ELSE ${place} END"


def id_or_last(place: int) -> str:
    """SQL of the id $place, or of the last of all where it is null. See `time_or`."""
    return f"CASE WHEN ${place}::uuid IS NULL THEN 'ffffffff-ffff-ffff-ffff-ffffffffffff' ELSE ${place} END"


def behind(first: int, most: int | None = None) -> str:
    """The end of a statement's WHERE, its order and its limit, where $first and the two parameters after it are
    created_at and id, both null for the first page, and the limit; with `most` that is the limit instead."""
    return f"""
    AND (created_at, id) < ({time_or("infinity", first)}, {id_or_last(first + 1)})
ORDER BY created_at DESC, id DESC LIMIT {most or f"${first + 2}"}
"""
