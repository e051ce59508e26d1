"""What the documents' own scripts break: `migrate` sees it, and `migrate --repair` brings it back."""

import re
import subprocess
from pathlib import Path

import psycopg
import pytest

from ops.local.postgres import Postgres
from schema import migrate, repair
from tests.schema.dumping import dump
from tests.schema.office import Office
from tests.schema.test_verify import wrong
from tests.support.commands import palomar

TWILIO_ROLLBACK = """
DROP TRIGGER IF EXISTS trigger_update_last_user_message ON kommo_messages;
DROP FUNCTION IF EXISTS update_last_user_message_timestamp();
DROP VIEW IF EXISTS active_conversations_by_provider;
DROP INDEX IF EXISTS idx_twilio_conversation_phone;
DROP INDEX IF EXISTS idx_conversations_provider_status;
DROP INDEX IF EXISTS idx_conversations_provider_phone;
DROP INDEX IF EXISTS idx_messages_provider;
ALTER TABLE kommo_conversations DROP CONSTRAINT IF EXISTS check_valid_provider;
ALTER TABLE kommo_conversations DROP CONSTRAINT IF EXISTS check_kommo_requires_chat_id;
ALTER TABLE kommo_conversations DROP COLUMN IF EXISTS provider;
ALTER TABLE kommo_conversations DROP COLUMN IF EXISTS last_user_message_at;
ALTER TABLE kommo_messages DROP COLUMN IF EXISTS provider;
"""
SETUP_CLEANUP = """
DROP TABLE IF EXISTS messages CASCADE;
DROP TABLE IF EXISTS conversations CASCADE;
"""
SCRIPTS = {
    "Twilio rollback": TWILIO_ROLLBACK,
    "Twilio rollback on our tables": TWILIO_ROLLBACK.replace("kommo_", "").replace(";", " CASCADE;"),
    "database setup's cleanup": SETUP_CLEANUP,
    "its first statement alone": SETUP_CLEANUP.strip().partition("\n")[0],
    "one and then the other": TWILIO_ROLLBACK + SETUP_CLEANUP,
    "a replaced function, a lost right and policy": """
        CREATE OR REPLACE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        REVOKE ALL ON contacts FROM palomar_api;
        REVOKE ALL ON endpoints FROM palomar_api;
        DROP POLICY own_rows ON messages;
        ALTER TABLE messages DISABLE ROW LEVEL SECURITY;
        ALTER TABLE messages ALTER status DROP NOT NULL;
        ALTER TABLE messages ALTER attempts SET DEFAULT 1;
    """,
}


def run_script(database_url: str, script: str) -> None:
    """As psql runs one: a statement that fails leaves the others theirs."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in filter(str.strip, re.split(r";(?=\s)", script)):
            try:
                connection.execute(statement.encode())
            except psycopg.Error:
                continue


def palomar_migrate(database_url: str, cwd: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return palomar({"DATABASE_URL": database_url, "PALOMAR_STATE_DIR": str(cwd)}, "migrate", *options)


def definitions(postgres: Postgres, database_url: str) -> set[str]:
    """The dump's lines, whatever their order: a column that was dropped comes back as the last."""
    return {line.rstrip(",") for line in dump(postgres, database_url)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_migrate_sees_what_a_script_broke_and_repair_brings_it_back(
    office: Office, postgres: Postgres, tmp_path: Path, script: str
) -> None:
    fresh = definitions(postgres, office.url)
    office.channel("twilio")
    run_script(office.url, SCRIPTS[script])
    assert wrong(office.url) != {}

    result = palomar_migrate(office.url, tmp_path)
    assert result.returncode == 1
    assert "The schema is not as its migrations made it" in result.stderr
    assert "palomar migrate --repair" in result.stderr

    done = palomar_migrate(office.url, tmp_path, "--repair")
    assert done.returncode == 0, done.stderr
    assert "made again: " in done.stdout
    assert wrong(office.url) == {}
    assert definitions(postgres, office.url) == fresh
    assert "nothing to do" in palomar_migrate(office.url, tmp_path).stdout
    assert repair.repair(office.url) == []
    assert office.worker("SELECT count(*) AS count FROM channels") == [{"count": 1}], "other tables keep their rows"


def test_rows_that_named_a_row_which_went_with_its_table_go_or_lose_the_name(office: Office) -> None:
    office.channel("meta")
    with office.session() as sql:
        sql.all("INSERT INTO whatsapp_sessions (phone_number) VALUES ('+5493425123456')")
        sql.all(
            "INSERT INTO whatsapp_messages (session_id, message_id, direction, content) "
            "SELECT id, 'wamid.1', 'INBOUND', 'STOP' FROM whatsapp_sessions"
        )
        sql.all(
            "INSERT INTO consents (contact_id, channel_kind, state, source, message_id) "
            "SELECT contact_id, 'whatsapp', 'opted_out', 'message', m.id FROM messages m JOIN conversations c "
            "ON c.id = m.conversation_id"
        )
    run_script(office.url, SETUP_CLEANUP)
    repair.repair(office.url)
    assert office.worker("SELECT state, message_id FROM consents") == [{"state": "opted_out", "message_id": None}]
    assert office.worker("SELECT conversation_id FROM sessions WHERE conversation_id IS NOT NULL") == []


def test_damage_is_reported_before_a_pending_migration_is_tried(office: Office, tmp_path: Path) -> None:
    migrate.rollback(office.url, 1)
    run_script(office.url, SETUP_CLEANUP)
    result = palomar_migrate(office.url, tmp_path)
    assert "palomar migrate --repair" in result.stderr
    assert palomar_migrate(office.url, tmp_path, "--repair").returncode == 0
    assert "applied" in palomar_migrate(office.url, tmp_path).stdout
    assert wrong(office.url) == {}
