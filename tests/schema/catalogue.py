"""What the API's role may touch, as PostgreSQL's catalogue tells it: what a migration adds is in it by itself."""

from dataclasses import dataclass

from tests.schema.people import Connection

# Every table: whether it is a partition, enables and forces row level security, has a tenant, and the role reaches it.
TABLES = """
SELECT t.tablename::text, c.relispartition, t.rowsecurity, c.relforcerowsecurity,
    EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'tenant_id' AND NOT attisdropped),
    has_any_column_privilege('palomar_api', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
        OR has_table_privilege('palomar_api', c.oid, 'DELETE, TRUNCATE, TRIGGER')
FROM pg_tables t JOIN pg_class c ON c.oid = format('%I.%I', t.schemaname, t.tablename)::regclass
WHERE t.schemaname = 'public' AND t.tablename NOT LIKE '%yoyo%'
ORDER BY 1
"""
_RELATIONS = """
SELECT c.relname::text, c.relkind = 'v', has_table_privilege('palomar_api', c.oid, 'DELETE'),
    array_agg(ARRAY[a.attname::text, format_type(a.atttypid, NULL),
        has_column_privilege('palomar_api', c.oid, a.attnum, 'SELECT')::text,
        has_column_privilege('palomar_api', c.oid, a.attnum, 'INSERT')::text,
        has_column_privilege('palomar_api', c.oid, a.attnum, 'UPDATE')::text] ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND (has_any_column_privilege('palomar_api', c.oid, 'SELECT, INSERT, UPDATE')
        OR has_table_privilege('palomar_api', c.oid, 'DELETE, TRUNCATE'))
GROUP BY c.oid ORDER BY 1
"""
_FUNCTIONS = """
SELECT p.proname::text, ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) AS t)
FROM pg_proc p
WHERE p.pronamespace = 'public'::regnamespace AND has_function_privilege('palomar_api', p.oid, 'EXECUTE')
    AND p.prorettype <> 'trigger'::regtype
ORDER BY 1, 2
"""
_TENANT_COLUMNS = ("tenant_id", "distributor_id")


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    select: bool
    insert: bool
    update: bool


@dataclass(frozen=True)
class Relation:
    """A table or view, with what the role may do with which column."""

    name: str
    is_view: bool
    delete: bool
    columns: tuple[Column, ...]

    def may(self, verb: str) -> list[Column]:
        """The columns that this verb (select, insert, update) may name."""
        return [column for column in self.columns if getattr(column, verb)]

    @property
    def tenant_column(self) -> str | None:
        """The column that says whose a row is; None where rows are counted together."""
        if self.name in ("tenants", "distributors"):
            return "id"
        return next((column.name for column in self.columns if column.name in _TENANT_COLUMNS), None)


@dataclass(frozen=True)
class Function:
    name: str
    arguments: tuple[str, ...]


def relations(connection: Connection) -> list[Relation]:
    """Every table and view of which the API's role may read, write or delete something."""
    return [
        Relation(
            name,
            is_view,
            delete,
            tuple(Column(n, t, s == "true", i == "true", u == "true") for n, t, s, i, u in columns),
        )
        for name, is_view, delete, columns in connection.execute(_RELATIONS).fetchall()
    ]


def functions(connection: Connection) -> list[Function]:
    """Every function that the API's role may call."""
    return [Function(name, tuple(arguments)) for name, arguments in connection.execute(_FUNCTIONS).fetchall()]
