"""The catalogue says of every table, view, function and sequence that it keeps tenants apart."""

import psycopg

from tests.schema.catalogue import TABLES

# Tables without a tenant: what keeps the whole installation going. The API's role may do nothing with them, but for
# reading which history the cursors of events belong to.
READABLE = {"event_epoch", "message_rates"}
MACHINERY = {
    "inbound_keys", "relay_cursor", "webhook_cursor", "import_progress", "operator_keys", "operator_idempotency_keys",
}  # fmt: skip
OWN_ROWS = "({} = (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid)"
POLICIES = """
SELECT policyname::text, permissive, roles::text[], cmd, qual, with_check FROM pg_policies
WHERE schemaname = 'public' AND tablename = %s ORDER BY 1
"""

OPEN = (
    """
    SELECT p.oid::regprocedure::text FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS a
    WHERE pronamespace = 'public'::regnamespace AND a.grantee = 0
    """,
    """
    SELECT oid::regprocedure::text FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND has_function_privilege('palomar_api', oid, 'EXECUTE')
        AND (prosecdef OR proname LIKE 'protect%')
    """,
    """
    SELECT seqrelid::regclass::text FROM pg_sequence
    WHERE has_sequence_privilege('palomar_api', seqrelid, 'USAGE, SELECT, UPDATE')
    """,
)


def test_every_table_of_tenants_is_protected_and_no_other_in_the_apis_reach(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(TABLES).fetchall()
        assert len(tables) > 20
        for name, partition, enabled, forced, has_tenant, reachable in tables:
            if name in MACHINERY:
                assert not reachable, name
            if name in MACHINERY | READABLE:
                continue
            assert has_tenant or name == "tenants", f"{name} has no tenant_id: whose rows are these?"
            assert (enabled, forced) == (True, True), name
            policies = connection.execute(POLICIES, (name,)).fetchall()
            if partition:
                assert not reachable, f"{name}: its rows are reached through the parent"
            own = OWN_ROWS.format("id" if name == "tenants" else "tenant_id")
            assert policies == [
                ("all_rows", "PERMISSIVE", ["palomar_worker"], "ALL", "true", "true"),
                ("own_rows", "PERMISSIVE", ["palomar_api"], "ALL", own, None),
            ], name


def test_every_view_asks_in_the_name_of_who_asks(database_url: str) -> None:
    """Any other view shows what its owner may see."""
    with psycopg.connect(database_url) as connection:
        views = connection.execute(
            "SELECT relname, coalesce('security_invoker=true' = ANY (reloptions), false) "
            "OR coalesce('security_invoker=on' = ANY (reloptions), false) FROM pg_class "
            "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm')"
        ).fetchall()
    assert len(views) >= 9
    assert [name for name, invoker in views if not invoker] == []


def test_functions_and_sequences_are_not_for_everybody(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        everybodys, apis, sequences = (connection.execute(query).fetchall() for query in OPEN)
        assert everybodys == [], "SELECT protect_functions() at the end of the migration"
        assert apis == []
        assert sequences == []
        assert connection.execute("SELECT has_schema_privilege('palomar_api', 'public', 'CREATE')").fetchone() == (
            False,
        )
