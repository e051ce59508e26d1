"""The shape of a migrated database: a digest of each thing that the migrations make, stored in shape.json beside this.

`verify` compares a database with it: a foreign key that was dropped, a default that was lost, a right that was given, a
function that was replaced. An addition (a user's own index) is no fault. After a new migration, write the
file anew: DATABASE_URL=… python -m schema shape > schema/shape.json, with a database that was only ever migrated.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg

FILE: Final = Path(__file__).with_name("shape.json")

VIEWS_ALIKE: Final = 16  # the first major version that prints a view as those after it do

# kind, name, definition, and where PostgreSQL prints the definition from what it parsed, the first major version that
# prints it as the recording one does: a later one may print it otherwise. Nothing here is an OID, which every build of
# PostgreSQL gives anew. Rights are those of everybody but the owner, whose name is each installation's own.
_THINGS = f"""
ours AS (
    SELECT c.oid, c.relname, c.relkind, c.relacl, c.relowner, c.reloptions FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
        AND c.relname !~ 'yoyo'
), functions AS (
    SELECT p.* FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
), granted (name, rights, owner) AS (
    SELECT o.relname, o.relacl, o.relowner FROM ours o
    UNION ALL
    SELECT format('%%s.%%s', o.relname, c.attname), c.attacl, o.relowner
    FROM ours o JOIN pg_attribute c ON c.attrelid = o.oid AND c.attnum > 0 AND c.attacl IS NOT NULL
    UNION ALL
    SELECT f.oid::regprocedure::text, f.proacl, f.proowner FROM functions f
), things (kind, name, definition, alike_from) AS (
    SELECT 'column', format('%%s.%%s', o.relname, a.attname),
        format('%%s %%s %%s', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity), NULL::int
    FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'default', format('%%s.%%s', o.relname, a.attname), pg_get_expr(d.adbin, d.adrelid), 15
    FROM ours o JOIN pg_attrdef d ON d.adrelid = o.oid JOIN pg_attribute a ON (a.attrelid, a.attnum) = (o.oid, d.adnum)
    UNION ALL
    SELECT 'constraint', format('%%s on %%s', k.conname, o.relname), pg_get_constraintdef(k.oid), 15
    FROM ours o JOIN pg_constraint k ON k.conrelid = o.oid WHERE k.contype IN ('p', 'u', 'f', 'c', 'x')
    UNION ALL
    SELECT 'index', format('%%s on %%s', i.indexrelid::regclass, o.relname), pg_get_indexdef(i.indexrelid), 15
    FROM ours o JOIN pg_index i ON i.indrelid = o.oid
    UNION ALL
    SELECT 'trigger', format('%%s on %%s', t.tgname, o.relname), pg_get_triggerdef(t.oid), 15
    FROM ours o JOIN pg_trigger t ON t.tgrelid = o.oid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'view', o.relname, concat(pg_get_viewdef(o.oid), o.reloptions), {VIEWS_ALIKE}
    FROM ours o WHERE o.relkind = 'v'
    UNION ALL
    SELECT 'function', f.oid::regprocedure::text,
        concat_ws(' ', f.prosrc, l.lanname, f.provolatile, f.prosecdef, f.proisstrict, f.proconfig,
            f.prorettype::regtype, f.proretset), NULL
    FROM functions f JOIN pg_language l ON l.oid = f.prolang
    UNION ALL
    SELECT 'rights on', g.name, (
        SELECT string_agg(format('%%s %%s', coalesce(nullif(a.grantee, 0)::regrole::text, 'everybody'),
            a.privilege_type), ', ' ORDER BY a.grantee::regrole::text, a.privilege_type)
        FROM aclexplode(g.rights) AS a WHERE a.grantee <> g.owner), NULL
    FROM granted g
), shape AS (
    SELECT kind || ' ' || name AS thing, left(md5(coalesce(definition, '')), 12) AS digest, alike_from FROM things
)
"""
_SHAPE = f"WITH {_THINGS} SELECT thing, digest FROM shape ORDER BY thing"
_VERSION = "current_setting('server_version_num')::int / 10000"

DIFFERS: Final = f"""
WITH {_THINGS}
SELECT e.thing || CASE WHEN s.thing IS NULL THEN ' is missing' ELSE ' is not as migrated' END
FROM unnest(%s::text[], %s::text[]) AS e (thing, digest) LEFT JOIN shape s USING (thing)
WHERE (SELECT max(migration_id) FROM public._yoyo_migration) = %s
    AND (s.thing IS NULL OR s.digest <> e.digest
    AND (s.alike_from IS NULL OR {_VERSION} BETWEEN s.alike_from AND %s))
UNION ALL
SELECT s.thing || ' is new' FROM shape s
WHERE s.thing LIKE 'rights on %%' AND s.thing <> ALL (%s::text[]) AND s.digest <> left(md5(''), 12)
    AND (SELECT max(migration_id) FROM public._yoyo_migration) = %s
ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """`postgresql`: the major version that wrote it; `last`: the newest migration it holds."""

    postgresql: int
    last: str
    things: dict[str, str]

    @property
    def values(self) -> tuple[Any, ...]:
        """What the query DIFFERS takes."""
        names = list(self.things)
        return names, list(self.things.values()), self.last, self.postgresql, names, self.last

    def written(self) -> str:
        """As it stands in the file."""
        whole = {"postgresql": self.postgresql, "last": self.last, "things": self.things}
        return orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def recorded(file: Path = FILE) -> Shape:
    """The shape that a migrated database is to have."""
    whole = orjson.loads(file.read_bytes())
    return Shape(whole["postgresql"], whole["last"], whole["things"])


def found(database_url: str) -> Shape:
    """The shape that this database has. Raises psycopg.OperationalError where it does not answer."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET search_path = public")
        row = connection.execute(
            f"SELECT {_VERSION}, (SELECT max(migration_id) FROM public._yoyo_migration)".encode()
        ).fetchone()
        assert row is not None
        rows = connection.execute(_SHAPE.replace("%%", "%").encode()).fetchall()
    return Shape(row[0], row[1], dict(rows))
