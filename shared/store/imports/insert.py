"""Inserts the rows of an import in batches; a row whose id or other key is there already stays as it is."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Final, get_args, get_type_hints
from uuid import UUID

import asyncpg

from shared.database import Connection
from shared.store.imports.rows import GroupContactRow, ImportedRow, Json, TextArray

_TYPES: Final[dict[object, str]] = {
    UUID: "uuid", str: "text", datetime: "timestamptz", int: "bigint", bool: "boolean", Json: "text", TextArray: "text"
}  # fmt: skip


def _statement(kind: type[ImportedRow]) -> str:
    """An INSERT of a batch of rows: each column is an array parameter."""
    columns: list[str] = []
    places: list[str] = []
    values: list[str] = []
    for name, annotation in _columns(kind).items():
        columns.append(name)
        places.append(f"${len(places) + 1}::{_TYPES[annotation]}[]")
        value = f"new.{name}"
        if annotation is Json:
            value += "::jsonb"
        elif annotation is TextArray:
            value = f"ARRAY(SELECT jsonb_array_elements_text({value}::jsonb))"
        values.append(value)
    return (
        f"INSERT INTO {kind.TABLE} ({', '.join(columns)}) SELECT {', '.join(values)} "
        f"FROM unnest({', '.join(places)}) AS new ({', '.join(columns)}) "
        f"ON CONFLICT DO NOTHING RETURNING {kind.RETURNS}"
    )


def _columns(kind: type[ImportedRow]) -> dict[str, object]:
    """Column → its type, without None."""
    hints = get_type_hints(kind)
    return {field.name: (get_args(hints[field.name]) or (hints[field.name],))[0] for field in fields(kind)}


_STATEMENTS: Final[dict[str, str]] = {}  # by table, made when first needed


async def insert(connection: Connection, rows: Sequence[ImportedRow]) -> set[UUID]:
    """Insert rows of one class; returns the ids of those that are new."""
    return {row[0] for row in await _insert(connection, rows)}


async def insert_members(connection: Connection, rows: Sequence[GroupContactRow]) -> set[tuple[UUID, UUID]]:
    """Put contacts into groups; returns the (group, contact) that are new."""
    return {(row[0], row[1]) for row in await _insert(connection, rows)}


async def _insert(connection: Connection, rows: Sequence[ImportedRow]) -> Sequence[asyncpg.Record]:
    if not rows:
        return []
    kind = type(rows[0])
    columns = [[getattr(row, name) for row in rows] for name in _columns(kind)]
    if kind.TABLE not in _STATEMENTS:
        _STATEMENTS[kind.TABLE] = _statement(kind)
    return await connection.fetch(_STATEMENTS[kind.TABLE], *columns)
