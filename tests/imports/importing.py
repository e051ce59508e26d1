"""What the tests of `palomar import` share: a source database beside ours, and the command as a person runs it."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from ops.local.postgres import OWNER
from ops.local.stack import Stack
from tests.support.commands import ROOT, palomar
from tests.support.databases import cloned

TABLES = (
    "tenants", "channels", "contacts", "contact_addresses", "conversations", "messages", "sessions", "groups",
    "group_contacts", "message_templates", "campaigns", "campaign_recipients", "webhooks", "webhook_logs",
    "import_aliases",
)  # fmt: skip
BYSTANDER = UUID("01890000-0000-7000-8000-0000000000b1")
SHOP = UUID("01890000-0000-7000-8000-0000000000c1")


@dataclass(frozen=True)
class SourceDatabase:
    """A database of another system. `url` is a role's that may read and nothing else."""

    url: str
    owner_url: str

    def execute(self, statements: str) -> None:
        with psycopg.connect(self.owner_url, autocommit=True) as connection:
            connection.execute(statements.encode())

    def rows(self, query: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.owner_url, row_factory=dict_row) as connection:
            return connection.execute(query.encode()).fetchall()

    def checksum(self) -> str:
        """Of every row and the transaction that wrote it."""
        digest = hashlib.sha256()
        tables = self.rows(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"
        )
        for table in tables:
            name = table["relname"]
            rows = self.rows(f"SELECT md5(string_agg(xmin || t::text, '\n' ORDER BY t::text)) AS sum FROM {name} t")
            digest.update(f"{name} {rows}".encode())
        return digest.hexdigest()


@contextmanager
def source_database(stack: Stack, statements: str) -> Iterator[SourceDatabase]:
    name, reader = f"test_source_{uuid4().hex}", f"reader_{uuid4().hex}"
    with psycopg.connect(stack.postgres.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(OWNER)))
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(reader)))
    source = SourceDatabase(stack.postgres.url(reader, name), stack.postgres.url(OWNER, name))
    source.execute(statements)
    source.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
    yield source
    with psycopg.connect(stack.postgres.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(reader)))


@contextmanager
def another_database(stack: Stack, template: str, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a second Palomar beside the test's own."""
    with cloned(stack.postgres, template) as url:
        yield {**environment, "DATABASE_URL": url}


class Ours:
    """Our side, read and written as the workers do."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._url = environment["DATABASE_URL"]

    def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        with psycopg.connect(self._url, row_factory=dict_row, options="-c role=palomar_worker") as connection:
            return connection.execute(query.encode(), arguments or None).fetchall()

    def execute(self, statements: str) -> None:
        with psycopg.connect(self._url, autocommit=True, options="-c role=palomar_worker") as connection:
            connection.execute(statements.encode())

    def as_owner(self, statements: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statements.encode())

    def value(self, query: str, *arguments: object) -> Any:
        (row,) = self.rows(query, *arguments)
        return next(iter(row.values()))

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """All rows of all tables that an import may write to."""
        return {table: self.rows(f"SELECT * FROM {table} t ORDER BY t::text") for table in TABLES}

    def of_bystander(self) -> dict[str, list[dict[str, Any]]]:
        """All rows of the tenant that no import is for."""
        tables = {table: "id" if table == "tenants" else "tenant_id" for table in TABLES}
        return {
            table: self.rows(f"SELECT *, xmin::text FROM {table} t WHERE {column} = '{BYSTANDER}' ORDER BY t::text")
            for table, column in tables.items()
        }

    def essence(self) -> dict[str, list[str]]:
        """What is stored, without what differs from one import to the next: our own ids, and when it was stored."""
        ours = {
            "people": "SELECT a.kind, a.canonical, a.given, c.name, c.is_active, c.deleted_at IS NULL "
            "FROM contact_addresses a JOIN contacts c USING (tenant_id) WHERE c.id = a.contact_id",
            "talk": "SELECT id, address, recipient, phone, kommo_chat_id, contact_name, status, last_message_at, "
            "last_user_message_at, unread_count, user_message_count, answered_count, metadata, created_at "
            "FROM conversations",
            "messages": "SELECT id, conversation_id, direction, role, message_type, md5(content), metadata, "
            "external_id, status, error_code, provider_timestamp, sent_at, delivered_at, read_at, created_at "
            "FROM messages",
            "places": "SELECT conversation_id, count(DISTINCT out_seq), count(out_seq) FROM messages "
            "GROUP BY conversation_id",
            "next places": "SELECT id, next_out_seq > coalesce((SELECT max(out_seq) FROM messages m "
            "WHERE m.tenant_id = c.tenant_id AND m.conversation_id = c.id), 0) FROM conversations c",
            "sessions": "SELECT id, conversation_id, phone_number, state, context_data FROM sessions",
            "groups": "SELECT id, name, description, is_active, deleted_at FROM groups",
            "members": "SELECT group_id, contact_id FROM group_contacts",
            "templates": "SELECT id, name, content, variables FROM message_templates",
            "campaigns": "SELECT id, name, message, status, due_at, total_recipients, message_template_id "
            "FROM campaigns",
            "recipients": "SELECT id, campaign_id, contact_id, status, error_message FROM campaign_recipients",
            "webhooks": "SELECT id, name, url, events, is_active FROM webhooks",
            "logs": "SELECT id, webhook_id, event, payload, status_code, success, due_at FROM webhook_logs",
            "tenants": "SELECT id, name FROM tenants",
        }
        return {name: sorted(str(tuple(row.values())) for row in self.rows(query)) for name, query in ours.items()}


def furnish(environment: Mapping[str, str]) -> None:
    """The tenant Shop, empty; and a bystander tenant with a contact that is imported for another tenant too."""
    Ours(environment).execute(
        f"""
        INSERT INTO tenants (id, name) VALUES ('{BYSTANDER}', 'Bystander'), ('{SHOP}', 'Shop');
        INSERT INTO channels (id, tenant_id, provider, kind, address, credentials)
        VALUES ('{BYSTANDER}', '{BYSTANDER}', 'twilio', 'whatsapp', '+14155238886', 'sealed');
        INSERT INTO contacts (id, tenant_id, name) VALUES ('{BYSTANDER}', '{BYSTANDER}', 'Somebody');
        INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
        VALUES ('{BYSTANDER}', 'phone', '+525500000001', '+525500000001', '{BYSTANDER}');
        INSERT INTO conversations (id, tenant_id, channel_id, contact_id, provider, address, recipient, phone,
            last_message_at, created_at)
        VALUES ('{BYSTANDER}', '{BYSTANDER}', '{BYSTANDER}', '{BYSTANDER}', 'twilio', '+525500000001',
            '+525500000001', '+525500000001', '2026-01-01', '2026-01-01');
        """
    )


def moved(environment: Mapping[str, str], *arguments: str, code: int = 0) -> str:
    """Run `palomar import`; returns what it printed, both streams."""
    done = palomar(environment, "import", *arguments, seconds=90)
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    return output


def counts(output: str) -> dict[str, tuple[int, int, int, int, int]]:
    """Table → (source, ours, new, already there, skipped), as the command printed them."""
    found = {}
    for line in output.splitlines():
        cells = [cell.strip() for cell in re.split("[│┃|]", line)[1:-1]]
        if len(cells) == 7 and cells[1].isdigit():
            source, ours, new, there, skipped = (int(cell) for cell in cells[1:6])
            found[cells[0]] = (source, ours, new, there, skipped)
    return found


_STILL_THERE = """
SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'palomar import%' AND datname = current_database()
"""
_GATE = 7_000_001  # an advisory lock that the tests take


def killed_midway(environment: Mapping[str, str], *arguments: str, table: str, row: UUID) -> None:
    """Run `palomar import` until it stands inside the transaction that stores this row, and kill it there."""
    ours = Ours(environment)
    ours.as_owner(
        f"""
        CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock({_GATE});
            RETURN NEW;
        END $$;
        CREATE TRIGGER gate BEFORE INSERT ON {table} FOR EACH ROW WHEN (NEW.id = '{row}') EXECUTE FUNCTION gate();
        """
    )
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as gatekeeper:
        gatekeeper.execute("SELECT pg_advisory_lock(%s)", (_GATE,))
        process = subprocess.Popen(
            [sys.executable, "-m", "ops", "import", *arguments],
            cwd=environment["PALOMAR_STATE_DIR"],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 60
            while not _waits(gatekeeper):
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    pytest.fail(f"the row did not come: {process.communicate()[0].decode()}")
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            process.communicate(timeout=20)
    deadline = time.monotonic() + 30
    while ours.value(_STILL_THERE):  # its connections end with the wait that the gate held up
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ours.as_owner(f"DROP TRIGGER gate ON {table}; DROP FUNCTION gate()")


def _waits(gatekeeper: psycopg.Connection[Any]) -> bool:
    row = gatekeeper.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %s", (_GATE,)
    ).fetchone()
    return row is not None and row[0] > 0
