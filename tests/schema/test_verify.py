"""`palomar verify`: all ✓ on a migrated database, and the one line that is ✗ for each thing that can go wrong."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from ops.local.postgres import Postgres
from schema import migrate, shape, verify
from tests.support.processes import ROOT

RUN_VERIFY = {"palomar": ["-m", "ops", "verify"], "schema": ["-m", "schema", "verify"]}


def run(command: str, database_url: str, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *RUN_VERIFY[command]],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "DATABASE_URL": database_url, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def wrong(database_url: str, folder: Path = migrate.MIGRATIONS) -> dict[str, tuple[str, ...]]:
    """What is wrong, by check."""
    return {
        f"{finding.check.group}: {finding.check.name}": finding.wrong
        for finding in verify.verify(database_url, folder)
        if not finding.ok
    }


@pytest.mark.parametrize("command", RUN_VERIFY)
def test_a_migrated_database_is_right_in_every_line(database_url: str, tmp_path: Path, command: str) -> None:
    done = run(command, database_url, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "✓" in line]
    assert len(lines) == len(verify.verify(database_url)) > 20
    assert "✗" not in done.stdout
    assert f"All {len(lines)} checks passed." in done.stdout


@pytest.mark.parametrize("command", RUN_VERIFY)
def test_an_error_comes_with_its_remedy(database_url: str, tmp_path: Path, command: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("ALTER TABLE groups DISABLE ROW LEVEL SECURITY")
    done = run(command, database_url, tmp_path)
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if "✗" in line)
    assert "row level security of every table" in line
    assert "groups does not enable it" in line
    assert "ALTER TABLE … ENABLE ROW LEVEL" in line
    assert "1 of " in done.stdout


@pytest.mark.parametrize("command", RUN_VERIFY)
def test_a_database_that_does_not_answer_is_reported(tmp_path: Path, command: str) -> None:
    done = run(command, f"postgresql://nobody@/nothing?host={tmp_path}", tmp_path)
    assert done.returncode == 1
    assert "PostgreSQL does not answer" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("break_it", "check", "reason"),
    [
        (
            "DROP TRIGGER trigger_update_last_user_message ON messages",
            "Twilio migration: trigger_update_last_user_message",
            "messages.trigger_update_last_user_message is missing",
        ),
        (
            "ALTER TABLE messages DISABLE TRIGGER trigger_update_last_user_message",
            "Palomar: triggers enabled",
            "trigger_update_last_user_message on messages",
        ),
        (
            "DROP TRIGGER channels_changed ON channels",
            "Palomar: everything that they make is there",
            "trigger channels_changed is missing",
        ),
        (
            "ALTER TABLE conversations DISABLE ROW LEVEL SECURITY",
            "database setup: row level security",
            "conversations has no row level security",
        ),
        (
            "ALTER TABLE consents NO FORCE ROW LEVEL SECURITY",
            "Palomar: row level security of every table of tenants",
            "consents does not force it",
        ),
        ("DROP POLICY own_rows ON contacts", "Palomar: policies", "contacts: own_rows is missing"),
        (
            "ALTER POLICY own_rows ON contacts USING (true)",
            "Palomar: policies",
            "contacts: own_rows was changed",
        ),
        (
            "REVOKE SELECT ON SEQUENCE events_seq_seq FROM palomar_worker",
            "Palomar: a backup holds every row",
            "events_seq_seq can't be read by palomar_worker",
        ),
        (
            "DROP POLICY all_rows ON events_default",
            "Palomar: a backup holds every row",
            "events_default hides rows from palomar_worker",
        ),
        (
            "DROP POLICY own_rows ON inbound_log_default",
            "Palomar: policies",
            "inbound_log_default: own_rows is missing",
        ),
        ("CREATE POLICY more ON contacts USING (true)", "Palomar: policies", "contacts: more is not ours"),
        (
            "ALTER VIEW customers SET (security_invoker = false)",
            "Palomar: views run with their reader's rights",
            "customers",
        ),
        (
            "DROP INDEX idx_messages_provider",
            "Twilio migration: indexes",
            "idx_messages_provider is missing",
        ),
        (
            "ALTER TABLE conversations DROP CONSTRAINT check_valid_provider",
            "Twilio migration: constraints of conversations",
            "conversations.check_valid_provider is missing",
        ),
        (
            "ALTER TABLE messages DROP CONSTRAINT check_direction",
            "Palomar: constraints by name",
            "check_direction is missing",
        ),
        (
            "ALTER TABLE contacts ADD CONSTRAINT late CHECK (name <> 'x') NOT VALID",
            "Palomar: constraints validated",
            "late on contacts",
        ),
        (
            "DROP VIEW active_conversations_by_provider",
            "Twilio migration: active_conversations_by_provider counts all providers",
            'relation "public.active_conversations_by_provider" does not exist',
        ),
        (
            "DROP FUNCTION conversations_needing_templates(text)",
            "Twilio integration guide: functions of the 24-hour window",
            "conversations_needing_templates(text) is missing",
        ),
        ("DROP VIEW customers", "database setup: tables", "customers is missing"),
        (
            "ALTER TABLE webhooks RENAME COLUMN secret TO secrets",
            "contacts and campaigns: the nine tables and their fields",
            "webhooks.secret is missing",
        ),
        (
            "ALTER VIEW whatsapp_sessions RENAME COLUMN state TO states",
            "WhatsApp module: whatsapp_settings, whatsapp_sessions, whatsapp_messages",
            "whatsapp_sessions.state is missing",
        ),
        (
            "ALTER VIEW kommo_messages ALTER COLUMN provider DROP DEFAULT",
            "Twilio migration: columns of kommo_conversations and kommo_messages",
            "kommo_messages.provider is text with default –",
        ),
        (
            "CREATE FUNCTION loose() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "Palomar: functions are not for everybody",
            "loose()",
        ),
        (
            "INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('x', '9999_later')",
            "Palomar: migrations known",
            "9999_later is not known to this version",
        ),
        (
            "DO $$ BEGIN EXECUTE format('DROP TABLE events_%s', to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')); END $$",
            "Palomar: partitions for the coming days",
            "events_",
        ),
    ],
)
def test_each_thing_that_goes_wrong_has_its_line(database_url: str, break_it: str, check: str, reason: str) -> None:
    assert wrong(database_url) == {}
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(break_it.encode())
    problems = wrong(database_url)
    assert check in problems
    assert any(text.startswith(reason) for text in problems[check]), problems


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            "ALTER TABLE messages DROP CONSTRAINT messages_tenant_id_conversation_id_fkey",
            "constraint messages_tenant_id_conversation_id_fkey on messages is missing",
        ),
        ("ALTER TABLE messages ALTER status DROP NOT NULL", "column messages.status is not as migrated"),
        ("ALTER TABLE messages ALTER attempts SET DEFAULT 1", "default messages.attempts is not as migrated"),
        ("ALTER TABLE messages ALTER attempts DROP DEFAULT", "default messages.attempts is missing"),
        ("GRANT TRUNCATE ON messages TO palomar_api", "rights on messages is not as migrated"),
        ("GRANT SELECT (xid) ON relay_cursor TO palomar_api", "rights on relay_cursor.xid is new"),
        ("REVOKE INSERT ON contacts FROM palomar_api", "rights on contacts is not as migrated"),
        (
            "CREATE OR REPLACE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "function touch_updated_at() is not as migrated",
        ),
        ("DROP INDEX conversations_latest", "index conversations_latest on conversations is missing"),
    ],
)
def test_what_was_changed_since_it_was_migrated_is_named(database_url: str, change: str, problem: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(change.encode())
    assert problem in wrong(database_url)["Palomar: nothing is changed"]


def test_what_somebody_added_is_no_fault(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("CREATE INDEX own_idea ON contacts (name)")
        owner.execute("CREATE TABLE own_notes (note text)")
    assert wrong(database_url) == {}


def test_the_recorded_shape_is_that_of_a_migrated_database_on_any_postgresql(database_url: str) -> None:
    found = shape.found(database_url)
    how = "write it anew: see schema/shape.py"
    assert found.last == shape.recorded().last, how
    other = [thing for thing, digest in found.things.items() if shape.recorded().things.get(thing) != digest]
    if found.postgresql < shape.VIEWS_ALIKE:
        other = [thing for thing in other if not thing.startswith("view ")]
    assert other == [], how
    assert set(shape.recorded().things) == set(found.things), how


def test_an_invalid_index_is_named(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as writer, writer.transaction():
        writer.execute("LOCK TABLE groups IN ROW EXCLUSIVE MODE")
        with psycopg.connect(database_url, autocommit=True) as owner:
            owner.execute("SET lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                owner.execute("CREATE INDEX CONCURRENTLY half_made ON groups (name)")
    assert wrong(database_url) == {"Palomar: indexes valid": ("half_made is invalid",)}


def test_a_pending_migration_is_named_and_nothing_else_is_wrong(database_url: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(migrate.MIGRATIONS, tmp_path / "migrations"))
    (folder / "9999_next.sql").write_text("CREATE TABLE next_year (id uuid);\n")
    assert wrong(database_url, folder) == {"Palomar: migrations applied": ("9999_next is not applied",)}


def test_roles_and_owners_with_too_many_rights_are_named(database_url: str, postgres: Postgres) -> None:
    """By the superuser, from whom no policy protects any row."""
    database = database_url.rsplit("/", 1)[1].split("?")[0]
    with psycopg.connect(postgres.url("postgres", database), autocommit=True) as admin:
        admin.execute("CREATE TABLE stray (id int)")
    assert wrong(database_url) == {"Palomar: owner of the tables": ("postgres owns tables and is a superuser",)}


def test_an_empty_database_is_wrong_throughout_and_says_why(database_url: str) -> None:
    migrate.rollback(database_url, 1000)
    problems = wrong(database_url)
    assert len(problems["Palomar: migrations applied"]) == len(migrate.status(database_url))
    assert len(problems) > 10


def test_checks_for_which_no_time_is_left_are_not_made(database_url: str) -> None:
    found = verify.verify(database_url, within=0.0)
    assert len(found) > 20
    assert not any(finding.was_made or finding.ok for finding in found)
    assert "took all the time" in found[0].detail
