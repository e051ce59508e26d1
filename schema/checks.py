"""What `verify` checks, as a list of values. A check is a query whose rows are what is wrong; none means ✓.

The first five groups are the verification queries of the documents of the systems that Palomar replaces, and what else
those documents promise; the last group is ours.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from schema import shape
from schema.migrate import MIGRATIONS

MIGRATE: Final = "Run ./palomar migrate."
REPAIR: Final = "Run ./palomar migrate --repair."
MADE: Final = ("everything that they make is there", "constraints by name")  # by whichever migrations are applied
AHEAD: Final = 2  # days after today whose partitions are there at any time; the clock makes more

_NAMED = re.compile(
    r"^(CREATE|DROP)\s+(?:UNIQUE\s+)?(TABLE|VIEW|INDEX|FUNCTION|TRIGGER)\s+"
    r"(?:CONCURRENTLY\s+)?(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(\w+)",
    re.M,
)


_CONSTRAINT = re.compile(r"^[^-\n]*?\b(DROP\s+)?CONSTRAINT\s+(?:IF\s+EXISTS\s+)?(\w+)", re.M)


@dataclass(frozen=True, slots=True)
class Check:
    """`query` gives a row with one text for each thing that is wrong."""

    group: str
    name: str
    query: str
    values: tuple[Any, ...]
    remedy: str

    @property
    def mended_by_repair(self) -> bool:
        return self.remedy.endswith(REPAIR)


_RELATIONS = "SELECT n || ' is missing' FROM unnest(%s::text[]) AS n WHERE to_regclass('public.' || n) IS NULL"
_COLUMNS = """
SELECT n || ' is missing' FROM unnest(%s::text[]) AS n WHERE NOT EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = to_regclass('public.' || split_part(n, '.', 1)) AND attname = split_part(n, '.', 2)
        AND NOT attisdropped)
"""
# Of several columns: name, type, and the beginning of the default where there is to be one.
_COLUMNS_AS_DOCUMENTED = """
SELECT format('%%s is %%s with default %%s', e.name, coalesce(c.data_type, 'missing'), coalesce(c.column_default, '–'))
FROM unnest(%s::text[], %s::text[], %s::text[]) AS e (name, type, starts)
LEFT JOIN information_schema.columns c
    ON c.table_schema = 'public' AND c.table_name || '.' || c.column_name = e.name
WHERE c.data_type IS DISTINCT FROM e.type OR NOT coalesce(c.column_default, '') LIKE e.starts || '%%'
"""
_CONSTRAINTS = """
SELECT n || ' is missing' FROM unnest(%s::text[]) AS n WHERE NOT EXISTS (
    SELECT FROM pg_constraint
    WHERE conrelid = to_regclass('public.' || split_part(n, '.', 1)) AND conname = split_part(n, '.', 2))
"""
_TRIGGERS = """
SELECT n || CASE WHEN t.tgname IS NULL THEN ' is missing' WHEN t.tgenabled = 'D' THEN ' is disabled'
    ELSE ' runs ' || t.tgfoid::regproc END
FROM unnest(%s::text[], %s::text[]) AS e (n, function)
LEFT JOIN pg_trigger t
    ON t.tgrelid = to_regclass('public.' || split_part(n, '.', 1)) AND t.tgname = split_part(n, '.', 2)
WHERE t.tgname IS NULL OR t.tgenabled = 'D' OR t.tgfoid::regproc::text <> e.function
"""
_INDEXES = """
SELECT n || CASE WHEN i.indexrelid IS NULL THEN ' is missing' ELSE ' is invalid' END
FROM unnest(%s::text[]) AS n LEFT JOIN pg_index i ON i.indexrelid = to_regclass('public.' || n)
WHERE i.indexrelid IS NULL OR NOT i.indisvalid
"""
_FUNCTIONS = """
SELECT n || ' is missing' FROM unnest(%s::text[]) AS n WHERE to_regprocedure('public.' || n) IS NULL
"""
_ROW_SECURITY = """
SELECT n || ' has no row level security' FROM unnest(%s::text[]) AS n
LEFT JOIN pg_tables t ON t.schemaname = 'public' AND t.tablename = n
WHERE t.rowsecurity IS NOT TRUE
"""

# -- ours --------------------------------------------------------------------------------------------------------------

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
# nobody was given any right is somebody's own; pg_dump itself fails on that.
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
_PROVIDERS = """
SELECT p || ' is not counted' FROM unnest(ARRAY['kommo', 'twilio', 'meta']) AS p
WHERE p NOT IN (SELECT provider FROM public.active_conversations_by_provider)
"""
# The fifth document's fields; those of `campaigns` and the rest of a tenant's own are named as its users name them.
_GUIDE_FIELDS: Final = {
    "contacts": "id tenant_id phone_number name is_active created_at updated_at deleted_at",
    "groups": "id tenant_id name description is_active created_at updated_at deleted_at",
    "group_contacts": "group_id contact_id created_at",
    "message_templates": "id tenant_id name content variables is_active created_at updated_at deleted_at",
    "campaigns": "id tenant_id whatsapp_instance_id message_template_id name message status scheduled_at started_at "
    "completed_at total_recipients sent_count failed_count created_at updated_at deleted_at",
    "campaign_recipients": "id campaign_id contact_id status sent_at delivered_at read_at failed_at error_message "
    "message_data created_at updated_at",
    "messages_history": "id tenant_id whatsapp_instance_id contact_id message_id chat_id direction type content "
    "metadata status sent_at delivered_at read_at created_at",
    "webhooks": "id tenant_id name url events secret is_active created_at updated_at deleted_at",
    "webhook_logs": "id webhook_id event payload response status_code success error_message attempt_count created_at "
    "completed_at",
}
_MODULE_FIELDS: Final = {
    "whatsapp_settings": "id api_key phone_number_id business_id access_token webhook_token webhook_url is_active "
    "last_updated_at created_at",
    "whatsapp_sessions": "id phone_number customer_profile_id state context_data last_message_at created_at updated_at",
    "whatsapp_messages": "id session_id message_id direction content message_type metadata created_at",
}


def checks(folder: Path = MIGRATIONS) -> list[Check]:
    """Every check, in the order in which they are shown."""
    names = _names(folder)
    made = _made(folder, names)
    twilio, guide, setup = "Twilio migration", "Twilio integration guide", "database setup"
    module, contacts, ours = "WhatsApp module", "contacts and campaigns", "Palomar"
    return [
        Check(
            twilio,
            "columns of kommo_conversations and kommo_messages",
            _COLUMNS_AS_DOCUMENTED,
            (
                ["kommo_conversations.provider", "kommo_conversations.last_user_message_at", "kommo_messages.provider"],
                ["text", "timestamp with time zone", "text"],
                ["'kommo'", "", "'kommo'"],
            ),
            REPAIR,
        ),
        Check(
            twilio,
            "constraints of conversations",
            _CONSTRAINTS,
            (["conversations.check_valid_provider", "conversations.check_kommo_requires_chat_id"],),
            REPAIR,
        ),
        Check(
            twilio,
            "trigger_update_last_user_message",
            _TRIGGERS,
            (["messages.trigger_update_last_user_message"], ["update_last_user_message_timestamp"]),
            "Without it no window opens. " + REPAIR,
        ),
        Check(twilio, "active_conversations_by_provider counts all providers", _PROVIDERS, (), REPAIR),
        Check(
            twilio,
            "indexes",
            _INDEXES,
            (
                [
                    "idx_twilio_conversation_phone",
                    "idx_conversations_provider_status",
                    "idx_conversations_provider_phone",
                    "idx_messages_provider",
                ],
            ),
            REPAIR,
        ),
        Check(
            guide,
            "functions of the 24-hour window",
            _FUNCTIONS,
            (
                [
                    "is_within_24_hour_window(timestamptz)",
                    "check_whatsapp_24_hour_window(uuid)",
                    "conversations_needing_templates(text)",
                ],
            ),
            REPAIR,
        ),
        Check(setup, "tables", _RELATIONS, (["conversations", "messages", "customers", "distributors"],), REPAIR),
        Check(setup, "row level security", _ROW_SECURITY, (["conversations", "messages"],), REPAIR),
        Check(
            setup,
            "indexes",
            _INDEXES,
            (
                [
                    "conversations_contact",
                    "conversations_pkey",
                    "conversations_address",
                    "conversations_latest",
                    "messages_created",
                    "messages_ai_processing",
                    "messages_external",
                ],
            ),
            REPAIR,
        ),
        Check(module, "whatsapp_settings, whatsapp_sessions, whatsapp_messages", *_fields(_MODULE_FIELDS), REPAIR),
        Check(contacts, "the nine tables and their fields", *_fields(_GUIDE_FIELDS), REPAIR),
        Check(ours, "migrations applied", _PENDING, (names,), MIGRATE),
        Check(ours, "migrations known", _NEWER, (names,), "Run the version of Palomar that applied them."),
        Check(ours, MADE[0], _MADE, made, REPAIR),
        Check(ours, MADE[1], _NAMED_CONSTRAINTS, _constraints(folder, names), REPAIR),
        Check(
            ours,
            "nothing is changed",
            shape.DIFFERS,
            shape.recorded().values,
            REPAIR,
        ),
        Check(
            ours,
            "roles",
            _ROLES,
            (),
            "ALTER ROLE … NOLOGIN NOSUPERUSER NOBYPASSRLS; GRANT both TO the role of DATABASE_URL.",
        ),
        Check(
            ours,
            "the role of DATABASE_URL sees no tenant's rows by itself",
            _INHERITED,
            (),
            "Who granted it: GRANT palomar_api, palomar_worker TO … WITH INHERIT FALSE, SET TRUE; before PostgreSQL 16 "
            "GRANT palomar_member TO …; REVOKE palomar_api, palomar_worker FROM ….",
        ),
        Check(
            ours,
            "owner of the tables",
            _OWNERS,
            (),
            "Row level security does not bind it: ALTER TABLE … OWNER TO a role without these rights.",
        ),
        Check(
            ours,
            "row level security of every table of tenants",
            _ENABLED,
            (),
            "ALTER TABLE … ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY.",
        ),
        Check(ours, "policies", _POLICIES, (), "DROP POLICY …; protect_tenant_table() makes a table's own."),
        Check(ours, "a backup holds every row", UNREADABLE, (), "GRANT SELECT ON … TO palomar_worker; see policies."),
        Check(ours, "views ask as who asks", _VIEWS, (), "ALTER VIEW … SET (security_invoker)."),
        Check(ours, "functions are not for everybody", _FOR_EVERYBODY, (), "SELECT protect_functions()."),
        Check(ours, "triggers enabled", _DISABLED_TRIGGERS, (), "ALTER TABLE … ENABLE TRIGGER …."),
        Check(ours, "indexes valid", _INVALID_INDEXES, (), "REINDEX INDEX CONCURRENTLY …."),
        Check(ours, "constraints validated", _UNVALIDATED, (), "ALTER TABLE … VALIDATE CONSTRAINT …."),
        Check(
            ours,
            "partitions for the coming days",
            _PARTITIONS,
            (AHEAD,),
            "The clock makes them: see with ./palomar status that it runs.",
        ),
    ]  # fmt: skip


def _fields(tables: dict[str, str]) -> tuple[str, tuple[list[str]]]:
    return _COLUMNS, ([f"{table}.{field}" for table, fields in tables.items() for field in fields.split()],)


def _names(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.sql") if not file.name.endswith(".rollback.sql"))


def _made(folder: Path, names: list[str]) -> tuple[list[str], list[str], list[str]]:
    """What the migrations make and don't drop again: the migration, the kind, the name."""
    found: dict[tuple[str, str], str] = {}
    for name in names:
        for verb, kind, made in _NAMED.findall((folder / f"{name}.sql").read_text()):
            if verb == "CREATE":
                found[kind, made] = name
            else:
                found.pop((kind, made), None)
    return list(found.values()), [kind for kind, _ in found], [made for _, made in found]


def _constraints(folder: Path, names: list[str]) -> tuple[list[str], list[str]]:
    """The constraints that the migrations name and don't drop again: the migration, the name."""
    found: dict[str, str] = {}
    for name in names:
        for dropped, made in _CONSTRAINT.findall((folder / f"{name}.sql").read_text()):
            if dropped:
                found.pop(made, None)
            else:
                found.setdefault(made, name)
    return list(found.values()), list(found)
