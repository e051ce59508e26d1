"""Checks what Palomar itself relies on: migrations, roles, row level security, triggers, indexes, partitions."""

from pathlib import Path
from typing import Final

from schema import shape
from schema.checks import migration_sql
from schema.checks.check import MIGRATE, REPAIR, Check

GROUP: Final = "Palomar"
MADE: Final = ("everything that they make is there", "constraints by name")  # by whichever migrations are applied
AHEAD: Final = 2  # days after today whose partitions are there at any time; the clock makes more

_PENDING = """
SELECT n || ' is not applied' FROM unnest(%s::text[]) AS n
WHERE NOT EXISTS (SELECT FROM public._yoyo_migration WHERE migration_id = n)
"""
_NEWER = """
SELECT migration_id || ' is not known to this version' FROM public._yoyo_migration
WHERE migration_id <> ALL (%s::text[]) ORDER BY 1
"""
_MADE = """
SELECT lower(kind) || ' ' || n || ' is missing'
FROM unnest(%s::text[], %s::text[], %s::text[]) AS m (migration, kind, n)
WHERE EXISTS (SELECT FROM public._yoyo_migration WHERE migration_id = migration) AND NOT CASE kind
    WHEN 'FUNCTION' THEN EXISTS (
        SELECT FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname = n)
    WHEN 'TRIGGER' THEN EXISTS (
        SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = 'public'::regnamespace AND t.tgname = n)
    ELSE to_regclass('public.' || n) IS NOT NULL END
"""
_NAMED_CONSTRAINTS = """
SELECT n || ' is missing' FROM unnest(%s::text[], %s::text[]) AS m (migration, n)
WHERE EXISTS (SELECT FROM public._yoyo_migration WHERE migration_id = migration) AND NOT EXISTS (
    SELECT FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conname = n)
ORDER BY 1
"""
_ROLES = """
SELECT n || CASE WHEN r.rolname IS NULL THEN ' does not exist' WHEN r.rolsuper THEN ' is a superuser'
    WHEN r.rolbypassrls THEN ' bypasses row level security' WHEN r.rolcanlogin THEN ' can log in'
    ELSE ' may not be taken by ' || current_user END
FROM unnest(ARRAY['palomar_api', 'palomar_worker']) AS n LEFT JOIN pg_roles r ON r.rolname = n
WHERE r.rolname IS NULL OR r.rolsuper OR r.rolbypassrls OR r.rolcanlogin OR NOT pg_has_role(r.oid,
    CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END)
"""
_INHERITED = """
SELECT format('%s sees what %s sees', current_user, r.rolname) FROM pg_roles r
WHERE r.rolname IN ('palomar_api', 'palomar_worker') AND pg_has_role(r.oid, 'USAGE')
    AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
ORDER BY 1
"""
_OWNERS = """
SELECT DISTINCT format('%s owns %s', r.rolname, CASE WHEN r.rolsuper THEN 'tables and is a superuser'
    ELSE 'tables and bypasses row level security' END)
FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND (r.rolsuper OR r.rolbypassrls)
"""
_TENANT_TABLES = """
tenant_tables AS (
    SELECT c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity,
        CASE c.relname WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END AS tenant
    FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND (c.relname = 'tenants' OR EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'tenant_id' AND NOT attisdropped)))
"""
_ENABLED = f"""
WITH {_TENANT_TABLES}
SELECT relname || ' does not ' || CASE WHEN relrowsecurity THEN 'force' ELSE 'enable' END || ' it'
FROM tenant_tables WHERE NOT (relrowsecurity AND relforcerowsecurity) ORDER BY 1
"""
_POLICIES = f"""
WITH {_TENANT_TABLES}, wanted AS (
    SELECT t.oid, t.relname, w.policy, w.role, w.condition
    FROM tenant_tables t, LATERAL (VALUES
        ('own_rows', 'palomar_api',
            format('(%I = (NULLIF(current_setting(''app.tenant_id''::text, true), ''''::text))::uuid)', t.tenant)),
        ('all_rows', 'palomar_worker', 'true')) AS w (policy, role, condition)
)
SELECT format('%s: %s %s', coalesce(w.relname, p.tablename), coalesce(w.policy, p.policyname),
    CASE WHEN p.policyname IS NULL THEN 'is missing' WHEN w.policy IS NULL THEN 'is not ours' ELSE 'was changed' END)
FROM wanted w
FULL JOIN (SELECT * FROM pg_policies WHERE schemaname = 'public') AS p
    ON p.tablename = w.relname AND p.policyname = w.policy
WHERE p.policyname IS NULL OR w.policy IS NULL OR p.cmd <> 'ALL' OR p.permissive <> 'PERMISSIVE'
    OR p.roles <> ARRAY[w.role]::name[] OR p.qual <> w.condition OR coalesce(p.with_check, p.qual) <> w.condition
ORDER BY 1
"""
# What a backup would leave out: pg_dump reads each table by itself, as the role that sees all tenants. A table on which
# no role was given any right is a user's own; pg_dump itself fails on that.
UNREADABLE: Final = """
SELECT CASE WHEN has_table_privilege('palomar_worker', c.oid, 'SELECT') THEN c.relname || ' hides rows from'
    ELSE c.relname || ' can''t be read by' END || ' palomar_worker'
FROM pg_class c
LEFT JOIN pg_depend d ON c.relkind = 'S' AND d.objid = c.oid AND d.deptype IN ('a', 'i')
    AND (d.classid, d.refclassid) = ('pg_class'::regclass, 'pg_class'::regclass)
LEFT JOIN pg_class counted ON counted.oid = d.refobjid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'S')
    AND coalesce(counted.relacl, c.relacl) IS NOT NULL
    AND (NOT has_table_privilege('palomar_worker', c.oid, 'SELECT')
        OR c.relrowsecurity AND (
            NOT EXISTS (
                SELECT FROM pg_policies p WHERE p.schemaname = 'public' AND p.tablename = c.relname
                    AND p.permissive = 'PERMISSIVE' AND p.cmd IN ('ALL', 'SELECT') AND p.qual = 'true'
                    AND 'palomar_worker' = ANY (p.roles))
            OR EXISTS (
                SELECT FROM pg_policies p WHERE p.schemaname = 'public' AND p.tablename = c.relname
                    AND p.permissive = 'RESTRICTIVE')))
ORDER BY 1
"""
_DISABLED_TRIGGERS = """
SELECT format('%s on %s', t.tgname, c.relname) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'public'::regnamespace AND t.tgenabled NOT IN ('O', 'A') ORDER BY 1
"""
_VIEWS = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm') AND NOT coalesce(
    (SELECT option_value::boolean FROM pg_options_to_table(reloptions) WHERE option_name = 'security_invoker'), false)
ORDER BY 1
"""
_INVALID_INDEXES = """
SELECT i.indexrelid::regclass::text || CASE WHEN i.indisvalid THEN ' is not ready' ELSE ' is invalid' END
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace = 'public'::regnamespace AND NOT (i.indisvalid AND i.indisready) ORDER BY 1
"""
_UNVALIDATED = """
SELECT format('%s on %s', conname, conrelid::regclass) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND NOT convalidated ORDER BY 1
"""
_FOR_EVERYBODY = """
SELECT p.oid::regprocedure::text
FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
WHERE p.pronamespace = 'public'::regnamespace AND a.grantee = 0 AND a.privilege_type = 'EXECUTE'
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
ORDER BY 1
"""
_PARTITIONS = """
SELECT parent || '_' || to_char(day, 'YYYYMMDD') || ' is missing'
FROM unnest(ARRAY['inbound_log', 'events']) AS parent,
    generate_series((now() AT TIME ZONE 'UTC')::date, (now() AT TIME ZONE 'UTC')::date + %s, interval '1 day') AS day
WHERE to_regclass('public.' || parent || '_' || to_char(day, 'YYYYMMDD')) IS NULL
ORDER BY 1
"""


def own_checks(folder: Path) -> list[Check]:
    """These checks, for the migrations of a folder."""
    names = migration_sql.names(folder)
    return [
        Check(GROUP, "migrations applied", _PENDING, (names,), MIGRATE),
        Check(GROUP, "migrations known", _NEWER, (names,), "Run the version of Palomar that applied them."),
        Check(GROUP, MADE[0], _MADE, migration_sql.made(folder, names), REPAIR),
        Check(GROUP, MADE[1], _NAMED_CONSTRAINTS, migration_sql.constraints(folder, names), REPAIR),
        Check(
            GROUP,
            "nothing is changed",
            shape.DIFFERS,
            shape.recorded().values,
            REPAIR,
        ),
        Check(
            GROUP,
            "roles",
            _ROLES,
            (),
            "ALTER ROLE … NOLOGIN NOSUPERUSER NOBYPASSRLS; GRANT both TO the role of DATABASE_URL.",
        ),
        Check(
            GROUP,
            "the role of DATABASE_URL sees no tenant's rows by itself",
            _INHERITED,
            (),
            "As its grantor: GRANT palomar_api, palomar_worker TO … WITH INHERIT FALSE, SET TRUE; before PostgreSQL 16 "
            "GRANT palomar_member TO …; REVOKE palomar_api, palomar_worker FROM ….",
        ),
        Check(
            GROUP,
            "owner of the tables",
            _OWNERS,
            (),
            "Row level security does not bind it: ALTER TABLE … OWNER TO a role without these rights.",
        ),
        Check(
            GROUP,
            "row level security of every table of tenants",
            _ENABLED,
            (),
            "ALTER TABLE … ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY.",
        ),
        Check(GROUP, "policies", _POLICIES, (), "DROP POLICY …; protect_tenant_table() makes a table's own."),
        Check(GROUP, "a backup holds every row", UNREADABLE, (), "GRANT SELECT ON … TO palomar_worker; see policies."),
        Check(GROUP, "views run with their reader's rights", _VIEWS, (), "ALTER VIEW … SET (security_invoker)."),
        Check(GROUP, "functions are not for everybody", _FOR_EVERYBODY, (), "SELECT protect_functions()."),
        Check(GROUP, "triggers enabled", _DISABLED_TRIGGERS, (), "ALTER TABLE … ENABLE TRIGGER …."),
        Check(GROUP, "indexes valid", _INVALID_INDEXES, (), "REINDEX INDEX CONCURRENTLY …."),
        Check(GROUP, "constraints validated", _UNVALIDATED, (), "ALTER TABLE … VALIDATE CONSTRAINT …."),
        Check(
            GROUP,
            "partitions for the coming days",
            _PARTITIONS,
            (AHEAD,),
            "The clock makes them: see with ./palomar status that it runs.",
        ),
    ]  # fmt: skip
