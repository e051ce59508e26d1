"""What a new database of the tests holds, and how one that was used comes back to it."""

from collections.abc import Iterable

import psycopg

Connection = psycopg.Connection[tuple[object, ...]]

MANY_ROWS = 20_000  # a table that held so many is not emptied for the next test: its database is dropped

# Every change of a row of these gives it the xid of the change, which is above all of the template's.
CATALOGUES = (
    "pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_proc", "pg_trigger", "pg_policy", "pg_type",
    "pg_enum", "pg_namespace", "pg_default_acl", "pg_extension", "pg_description", "pg_inherits", "pg_rewrite",
    "pg_event_trigger", "pg_statistic_ext", "pg_statistic", "pg_operator", "pg_cast", "pg_sequence", "pg_publication",
    "pg_depend", "pg_foreign_server", "pg_largeobject_metadata", "pg_partitioned_table", "pg_range", "pg_aggregate",
    "pg_seclabel",
)  # fmt: skip
# Not so in pg_class: to empty a table changes its row.
RELATIONS = """
    SELECT md5(string_agg(concat_ws(' ', oid, relname, relnamespace, reltype, relowner, relam, reltablespace, relkind,
        relpersistence, relnatts, relchecks, relhasrules, relhastriggers, relrowsecurity, relforcerowsecurity,
        relispartition, relacl, reloptions, relpartbound), ',' ORDER BY oid))
    FROM pg_class WHERE relkind <> 't' AND relnamespace <> 'pg_toast'::regnamespace
"""
DATABASE = """
    SELECT concat_ws(' ', datdba, datallowconn, datconnlimit, datacl, datistemplate,
        (SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = d.oid),
        (SELECT count(*) FROM pg_shdescription WHERE objoid = d.oid))
    FROM pg_database d WHERE datname = current_database()
"""
OUR_TABLES = """
    SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r'
    AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) ORDER BY 1
"""
OUR_SEQUENCES = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S' ORDER BY 1"
REFERRING = """
    SELECT conrelid::regclass::text, confrelid::regclass::text
    FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
    WHERE contype = 'f' AND t.relkind = 'r'
"""


class Contents:
    """What a new database holds: its catalogue, the rows that its migrations wrote, where its sequences are."""

    def __init__(self, connection: Connection) -> None:
        changed = (f"SELECT count(*) || ' ' || coalesce(max(xmin::text::bigint), 0) FROM {name}" for name in CATALOGUES)
        self._catalogue_query = _union([*changed, RELATIONS, DATABASE])
        tables = _texts(connection, OUR_TABLES)
        counted = "SELECT '{0}', (SELECT count(*) FROM (SELECT FROM {0} LIMIT {1}) t)"
        self._counts_query = _union(counted.format(name, MANY_ROWS) for name in tables)
        self._seeded = set(self._filled(connection))
        hashed = "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {0} t"
        self._seeds_query = _union(hashed.format(name) for name in sorted(self._seeded))
        placed = "SELECT '{0}', last_value, is_called FROM {0}"
        self._places_query = _union(placed.format(name) for name in _texts(connection, OUR_SEQUENCES))
        self._catalogue = connection.execute(self._catalogue_query).fetchall()
        self._seeds = connection.execute(self._seeds_query).fetchall()
        self._places = connection.execute(self._places_query).fetchall()
        self._referring: dict[str, set[str]] = {}
        for referring, referred in connection.execute(REFERRING):
            self._referring.setdefault(str(referred), set()).add(str(referring))

    def restore(self, connection: Connection) -> bool:
        """Empty the tables that are empty in a new database. Returns False where that does not make it as new."""
        if connection.execute(self._catalogue_query).fetchall() != self._catalogue:
            return False
        if connection.execute(self._seeds_query).fetchall() != self._seeds:
            return False
        filled = self._filled(connection)
        emptied = self._with_referring(filled.keys() - self._seeded)
        if MANY_ROWS in filled.values() or emptied & self._seeded:
            return False
        if emptied:
            connection.execute(f"TRUNCATE {', '.join(sorted(emptied))}".encode())
        for now, (name, last, called) in zip(connection.execute(self._places_query), self._places, strict=True):
            if now != (name, last, called):
                connection.execute("SELECT setval(%s::text::regclass, %s, %s)", (name, last, called))
        return True

    def _filled(self, connection: Connection) -> dict[str, int]:
        """Table → rows, up to MANY_ROWS, of those that have any."""
        rows = connection.execute(self._counts_query).fetchall()
        return {str(name): count for name, count in rows if isinstance(count, int) and count}

    def _with_referring(self, tables: Iterable[str]) -> set[str]:
        """These, and the tables whose foreign keys lead to them: they are emptied together or not at all."""
        found: set[str] = set()
        left = list(tables)
        while left:
            if (name := left.pop()) not in found:
                found.add(name)
                left.extend(self._referring.get(name, ()))
        return found


def _union(queries: Iterable[str]) -> bytes:
    return " UNION ALL ".join(queries).encode()


def _texts(connection: Connection, query: str) -> list[str]:
    return [str(text) for (text,) in connection.execute(query.encode())]
