"""Reads another system's database for `palomar import`: in one read-only snapshot, by pages of keys.

It does not rely on the source's column types: a value is read as text (cut a little above our limit) or as a time. A
column may be written `phone_number`, `phoneNumber` or `phonenumber`; the source's catalog decides which.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg

REST: Final = "*"  # in a row: a JSON object of the columns that its table has no name for
LONGEST: Final = 100_000  # characters of a text that we store
LONGEST_JSON: Final = 1_000_000  # and of a JSON value
CONNECT_TIMEOUT: Final = 10.0  # seconds

Kind = Literal["text", "time", "json"]
Value = str | datetime | None
Row = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Join:
    """Another table's row whose `key` is this table's column `on`."""

    table: str
    on: str
    key: str = "id"


@dataclass(frozen=True, slots=True)
class Column:
    """A column by our name for it, with the other names that systems of this kind give it."""

    name: str
    kind: Kind = "text"
    also: tuple[str, ...] = ()
    needed: bool = True
    join: Join | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a source. `key` are the columns that tell its rows apart, in the order of its pages; `also` are other
    names that systems of this kind give it; `rest` says whether columns that have no name here are read too."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ("id",)
    also: tuple[str, ...] = ()
    rest: bool = True


class Missing(Exception):
    """The source has no such table or column; the text names it."""


class Unreadable(Exception):
    """The source is unreachable or refuses; the text says which."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A column of ours as the source has it."""

    sql: str  # qualified and quoted
    type: str


@dataclass(frozen=True, slots=True)
class Found:
    """A table of the source, with the statements that read it."""

    table: Table
    count: str
    keyless: str
    page: str
    first_page: str
    places: Mapping[str, _Place]
    names: Mapping[str, str]  # of this table, and of those that it joins: as the source calls them


@dataclass(frozen=True, slots=True)
class _Layout:
    """A table's columns as the source has them."""

    places: Mapping[str, _Place]
    names: Mapping[str, str]
    rest: Sequence[str]  # its columns that have no name here


class Source:
    """A connection within its snapshot; `opened` makes one."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    async def holds_lock(self, number: int) -> bool:
        """Whether any session holds this advisory lock (a 64-bit number) in this database."""
        held: bool = await self._value(_HOLDS_LOCK, number >> 32, number & 0xFFFFFFFF)
        return held

    async def now(self) -> datetime:
        """The moment of the snapshot, by the source's clock."""
        at: datetime = await self._value("SELECT now()")
        return at

    async def find(self, table: Table) -> Found:
        """Raises Missing for a table, or a needed column, that is not there."""
        return _found(table, await self._layout(table))

    async def has(self, table: Table) -> bool:
        """Whether this connection finds such a table or view."""
        return (await self._catalog(table.name, table.also)) is not None

    async def count(self, found: Found) -> tuple[int, int]:
        """(rows, rows among them whose key is null, which no page holds)."""
        rows: int = await self._value(found.count)
        keyless: int = await self._value(found.keyless)
        return rows, keyless

    async def page(self, found: Found, after: Sequence[str] | None, limit: int) -> list[Row]:
        """The next rows after this key, in its order."""
        if after is None:
            return [dict(row) for row in await self._fetch(found.first_page, limit)]
        return [dict(row) for row in await self._fetch(found.page, limit, *after)]

    async def distinct(self, found: Found, *names: str) -> list[tuple[str | None, ...]]:
        """Every combination of these columns' values."""
        columns = ", ".join(f"left({found.places[name].sql}::text, 255)" for name in names)
        rows = await self._fetch(f"SELECT DISTINCT {columns} FROM {_from(found.table, found.places, found.names)}")
        return [tuple(row) for row in rows]

    async def _catalog(self, name: str, also: Sequence[str] = ()) -> tuple[str, dict[str, str]] | None:
        """The source's name for a table, and its columns with their types; None where it has no such table."""
        for actual in _table_spellings(name, also):
            if rows := await self._fetch(_COLUMNS, _quoted(actual)):
                return actual, {row["name"]: row["type"] for row in rows}
        return None

    async def _layout(self, table: Table) -> _Layout:
        catalogs: dict[str, dict[str, str]] = {}
        names: dict[str, str] = {}
        for name in [table.name, *(column.join.table for column in table.columns if column.join)]:
            if name not in catalogs:
                found = await self._catalog(name, table.also if name == table.name else ())
                if found is None:
                    raise Missing(f"there is no table {name}")
                names[name], catalogs[name] = found
        places: dict[str, _Place] = {}
        used: set[str] = set()
        for column in table.columns:
            of = column.join.table if column.join else table.name
            actual = next((n for n in _spellings(column) if n in catalogs[of]), None)
            if actual is not None:
                alias = "t" if column.join is None else _alias(column.join)
                places[column.name] = _Place(f"{alias}.{_quoted(actual)}", catalogs[of][actual])
                if column.join is None:
                    used.add(actual)
            elif column.needed:
                others = f" (nor {', '.join(column.also)})" if column.also else ""
                raise Missing(f"table {of} has no column {column.name}{others}")
        rest = [name for name in catalogs[table.name] if name not in used] if table.rest else []
        return _Layout(places, names, rest)

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        try:
            return await self._connection.fetch(statement, *arguments)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unreadable(str(error) or type(error).__name__) from error

    async def _value(self, statement: str, *arguments: object) -> Any:
        return (await self._fetch(statement, *arguments))[0][0]


_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
"""
# An advisory lock of 64 bits stands in two halves; a lock belongs to one database of a server.
_HOLDS_LOCK = """
SELECT EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND classid = $1::bigint::oid
        AND objid = $2::bigint::oid AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Source]:
    """Connect to a source within one read-only snapshot. Raises what asyncpg raises."""
    # Without prepared statements, so that a pooler may stand in between; the transaction stays on one server
    # connection.
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT, statement_cache_size=0)
    try:
        await connection.execute("SET default_transaction_read_only = on")
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
                await connection.execute(f"SET LOCAL {name} = 0")
            await connection.execute("SET LOCAL timezone = 'UTC'")
            await connection.execute("SET LOCAL datestyle = 'ISO'")
            yield Source(connection)
    finally:
        connection.terminate()  # close() would wait for a server that does not answer


# -- the statements ----------------------------------------------------------------------------------------------------


def _found(table: Table, layout: _Layout) -> Found:
    places = layout.places
    keys = [places[name] for name in table.key]
    there = [column for column in table.columns if column.name in places]
    columns = [f"{_read(column, places[column.name])} AS {_quoted(column.name)}" for column in there]
    if layout.rest:
        # As text from the start: to make jsonb of it, PostgreSQL would have to take all that it holds.
        rest = ", ".join(f"t.{_quoted(name)}" for name in layout.rest)
        whole = f"(SELECT row_to_json(r) FROM (SELECT {rest}) AS r)::text"
        columns.append(f"left({whole}, {LONGEST_JSON + 1}) AS {_quoted(REST)}")
    key_row = f"({', '.join(key.sql for key in keys)})"
    # Typed as the column is, so that the source's index serves.
    after = f"({', '.join(f'${place}::text::{key.type}' for place, key in enumerate(keys, start=2))})"
    keyed = " AND ".join(f"{key.sql} IS NOT NULL" for key in keys)
    order = ", ".join(key.sql for key in keys)
    select = f"SELECT {', '.join(columns)} FROM {_from(table, places, layout.names)} WHERE {keyed}"
    name = _quoted(layout.names[table.name])
    return Found(
        table=table,
        count=f"SELECT count(*) FROM {name}",
        keyless=f"SELECT count(*) FROM {name} t WHERE NOT ({keyed})",
        first_page=f"{select} ORDER BY {order} LIMIT $1",
        page=f"{select} AND {key_row} > {after} ORDER BY {order} LIMIT $1",
        places=places,
        names=layout.names,
    )


def _from(table: Table, places: Mapping[str, _Place], names: Mapping[str, str]) -> str:
    text = f"{_quoted(names[table.name])} t"
    for join in dict.fromkeys(column.join for column in table.columns if column.join):
        alias = _alias(join)
        text += (
            f" LEFT JOIN {_quoted(names[join.table])} {alias} ON {alias}.{_quoted(join.key)} = {places[join.on].sql}"
        )
    return text


def _read(column: Column, place: _Place) -> str:
    if column.kind == "time" and place.type.startswith(("timestamp", "date")):
        # A time without a zone is UTC: the systems' libraries write it so. One beyond any calendar is none.
        zoned = place.sql if place.type == "timestamp with time zone" else f"({place.sql} AT TIME ZONE 'UTC')"
        return f"CASE WHEN {place.sql} BETWEEN '1900-01-01' AND '9000-01-01' THEN {zoned} END"
    if column.kind == "json":
        whole = f"to_jsonb({place.sql})::text" if place.type.endswith("[]") else f"{place.sql}::text"
        return f"left({whole}, {LONGEST_JSON + 1})"
    return f"left({place.sql}::text, {LONGEST + 1})"


def _spellings(column: Column) -> list[str]:
    spellings = []
    for name in (column.name, *column.also):
        camel = _camel(name)
        spellings += [name, camel, camel.lower()]
    return spellings


def _table_spellings(name: str, also: Sequence[str]) -> list[str]:
    """`group_contacts`: `groupContacts`, and as Prisma calls a model, `GroupContact` and `GroupContacts`."""
    camel = _camel(name)
    model = camel[:1].upper() + camel[1:]
    return list(dict.fromkeys((name, *also, camel, model.removesuffix("s"), model)))


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _alias(join: Join) -> str:
    return f"j_{join.table}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
