"""Turns keys into the array parameters of a statement that joins `unnest(…)`: one array a column."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from shared.database import Connection


def arrays(keys: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """The columns of keys of `width` values each; empty ones where there are no keys."""
    return [[key[place] for key in keys] for place in range(width)]


async def ids_by_place(connection: Connection, statement: str, keys: Sequence[tuple[Any, ...]]) -> dict[int, UUID]:
    """Place in `keys` → the id that `statement` finds for it, the first one where it finds several.

    `statement` takes the places and then the keys' columns, and returns (place, id).
    """
    if not keys:
        return {}
    rows = await connection.fetch(statement, list(range(len(keys))), *arrays(keys, len(keys[0])))
    return {row["place"]: row["id"] for row in reversed(rows)}
