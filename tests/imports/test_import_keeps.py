"""What of a source might get lost on the way, and does not."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import orjson
import pytest

from ops.local.stack import Stack
from shared.crypto import KeyRing
from tests.imports import layouts
from tests.imports.importing import SHOP, Ours, SourceDatabase, furnish, moved, source_database

FILE = "https://files.example/a.jpg"
FIRST = "00000000-0000-4000-8000-000000000001"
SAID = "00000000-0000-4000-9000-000000000001"


def one(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return row


@contextmanager
def arrived(
    stack: Stack, environment: dict[str, str], statements: str, *arguments: str, code: int = 0
) -> Iterator[tuple[Ours, SourceDatabase, str]]:
    """Our side after an import of this source, the source, and what the command said."""
    furnish(environment)
    with source_database(stack, statements) as source:
        system, *more = arguments
        yield Ours(environment), source, moved(environment, system, "--from", source.url, *more, code=code)


KOMMO = f"""
ALTER TABLE kommo_conversations ADD pipeline text, ADD score integer, ADD nothing text, ADD webhook_secret text;
ALTER TABLE kommo_messages ADD media_url text, ADD sent_by text;
INSERT INTO kommo_conversations (id, provider, phone, metadata, status, last_user_message_at, created_at, pipeline,
    score, webhook_secret)
VALUES ('{FIRST}', 'twilio', '+34600000001', '{{"lead": 7}}', 'parked', now() - interval '1 hour',
    now() - interval '9 days', 'sales', 5, 'hush');
INSERT INTO kommo_messages (id, conversation_id, provider, role, content, message_type, metadata, created_at, media_url,
    sent_by)
VALUES ('{SAID}', '{FIRST}', 'twilio', 'user', 'mira', 'hologram', '{{"attachments": [{{"url": "{FILE}?2"}}]}}',
    now() - interval '8 days', '{FILE}', 'Ana');
"""


@pytest.fixture
def kommo(stack: Stack, environment: dict[str, str]) -> Iterator[tuple[Ours, SourceDatabase, str]]:
    with arrived(stack, environment, layouts.KOMMO_TABLES + KOMMO, "kommo-twilio", "--tenant", "Shop") as everything:
        yield everything


def test_the_window_is_what_the_source_says_though_the_message_is_not_there(
    kommo: tuple[Ours, SourceDatabase, str], environment: dict[str, str]
) -> None:
    ours, source, _ = kommo
    asked = f"SELECT last_user_message_at FROM kommo_conversations WHERE id = '{FIRST}'"
    there = one(source.rows(asked))
    assert one(ours.rows(f"SELECT last_user_message_at FROM conversations WHERE id = '{FIRST}'")) == there
    # Also of a conversation that joined one which is here already.
    again = "00000000-0000-4000-8000-000000000009"
    source.execute(
        "INSERT INTO kommo_conversations (id, provider, phone, last_user_message_at, created_at) "
        f"VALUES ('{again}', 'twilio', '34600000001', now() - interval '1 minute', now())"
    )
    moved(environment, "kommo-twilio", "--from", source.url, "--tenant", "Shop")
    newer = one(source.rows(asked.replace(FIRST, again)))
    assert one(ours.rows(f"SELECT last_user_message_at FROM conversations WHERE id = '{FIRST}'")) == newer


def test_columns_without_a_name_here_are_in_metadata_and_secrets_are_not(
    kommo: tuple[Ours, SourceDatabase, str],
) -> None:
    ours, _, output = kommo
    talk = one(ours.rows(f"SELECT status, metadata FROM conversations WHERE id = '{FIRST}'"))
    assert talk == {
        "status": "active",
        "metadata": {"lead": 7, "imported": {"pipeline": "sales", "score": 5, "status": "parked"}},
    }
    assert "kommo_conversations: 1 mended: a column that may hold a secret: left out\n" in output
    assert "hush" not in str(ours.everything())


def test_attachments_and_the_original_of_an_unknown_type_are_kept(kommo: tuple[Ours, SourceDatabase, str]) -> None:
    ours, _, _ = kommo
    said = one(ours.rows(f"SELECT message_type, media, metadata FROM messages WHERE id = '{SAID}'"))
    assert said["message_type"] == "unsupported"
    assert said["media"] == [{"url": FILE}, {"url": f"{FILE}?2"}]
    assert said["metadata"]["imported"] == {"media_url": FILE, "sent_by": "Ana", "message_type": "hologram"}


def test_conversations_without_a_usable_address_are_closed_records(stack: Stack, environment: dict[str, str]) -> None:
    with arrived(stack, environment, layouts.KOMMO, "kommo-twilio", "--tenant", "Shop") as (ours, _, _):
        for number, original in (("2", "+5215599000002"), ("3", "call me")):
            talk = one(
                ours.rows(f"SELECT * FROM conversations WHERE id = '00000000-0000-4000-a000-00000000000{number}'")
            )
            assert (talk["status"], talk["phone"], talk["contact_id"]) == ("closed", None, None)
            assert talk["address"] == talk["recipient"] == f"imported {talk['id']}"
            assert talk["metadata"]["imported"]["phone"] == original


def test_a_customer_who_cannot_be_reached_has_their_conversation(stack: Stack, environment: dict[str, str]) -> None:
    with arrived(stack, environment, layouts.DISTRIBUTORS, "distributors") as (ours, _, _):
        talk = one(ours.rows("SELECT * FROM conversations WHERE id = '00000000-0000-4000-8000-00000000f001'"))
        customer = UUID("00000000-0000-4000-c000-00000000f001")
        assert (talk["status"], talk["contact_id"]) == ("closed", customer)
        nobody = one(ours.rows("SELECT id FROM conversations WHERE id = '00000000-0000-4000-8000-00000000f002'"))
        assert ours.value("SELECT content FROM messages WHERE conversation_id = %s", nobody["id"]) == "orphan"


def test_mail_stands_in_as_mail(stack: Stack, environment: dict[str, str]) -> None:
    with arrived(stack, environment, layouts.DISTRIBUTORS, "distributors") as (ours, _, _):
        kinds = ours.rows("SELECT DISTINCT provider, kind FROM channels WHERE address = 'imported' ORDER BY kind")
        assert [tuple(row.values()) for row in kinds] == [
            ("email", "email"), ("twilio", "sms"), ("twilio", "whatsapp"),
        ]  # fmt: skip
        others = "conversations c JOIN channels ch ON ch.id = c.channel_id WHERE c.provider <> ch.provider"
        assert ours.value(f"SELECT count(*) FROM {others}") == 0


def test_tables_by_prismas_names_are_read_and_other_secrets_of_settings_are_sealed(
    stack: Stack, environment: dict[str, str]
) -> None:
    renamed = """
    ALTER TABLE whatsapp_settings RENAME TO "WhatsAppSettings";
    ALTER TABLE whatsapp_sessions RENAME TO "WhatsAppSession";
    ALTER TABLE whatsapp_messages RENAME TO "WhatsAppMessage";
    ALTER TABLE "WhatsAppSettings" ADD "appSecret" text DEFAULT 'the-app-secret';
    """
    statements = layouts.WHATSAPP_MODULE + renamed
    with arrived(stack, environment, statements, "whatsapp-module", "--tenant", "Shop") as (ours, _, output):
        assert "✗" not in output
        assert ours.value("SELECT count(*) FROM sessions") == 91
        channel = one(ours.rows("SELECT id, credentials FROM channels WHERE address = '109876543210'"))
        keys = KeyRing.parse(environment["PALOMAR_SECRET_KEYS"])
        opened = orjson.loads(keys.open(channel["credentials"], tenant_id=SHOP, owner=channel["id"]))
        assert opened["imported"] == {"appSecret": "the-app-secret"}


def test_instances_are_called_as_their_table_calls_them(stack: Stack, environment: dict[str, str]) -> None:
    instances = """
    CREATE TABLE "WhatsAppInstance" (id uuid, "tenantId" uuid, "instanceName" text, "phoneNumber" text);
    INSERT INTO "WhatsAppInstance" VALUES (an_id('e', 1), an_id('a', 1), 'Ventas', '+34600000001'),
        (an_id('e', 7), an_id('a', 1), 'Nobody yet', NULL);
    """
    with arrived(stack, environment, layouts.CAMPAIGNS + instances, "campaigns") as (ours, _, _):
        names = ours.rows("SELECT name FROM channels WHERE tenant_id::text LIKE 'a0000000%%' ORDER BY name")
        assert [row["name"] for row in names] == ["Nobody yet", "Ventas +34600000001", "imported from campaigns"]


def test_a_url_in_capitals_is_one_and_what_else_is_known_of_people_is_kept(
    stack: Stack, environment: dict[str, str]
) -> None:
    changed = """
    UPDATE webhooks SET url = 'HTTPS://shop.example.com/in', events = (
        SELECT array_agg('event_' || n ORDER BY n) FROM generate_series(1, 1200) n) WHERE id = an_id('8', 1);
    ALTER TABLE contacts ADD tax_id text;
    UPDATE contacts SET tax_id = 'B-12' WHERE id = an_id('c', 3);
    """
    with arrived(stack, environment, layouts.CAMPAIGNS + changed, "campaigns") as (ours, _, _):
        assert ours.value("SELECT url FROM webhooks") == "https://shop.example.com/in"
        assert ours.value("SELECT cardinality(events) FROM webhooks") == 1000
        metadata = "SELECT metadata FROM contacts WHERE id = 'c0000000-0000-4000-8000-000000000003'"
        assert ours.value(metadata) == {"imported": {"tax_id": "B-12"}}


def test_what_was_made_is_said_also_where_the_import_is_refused(stack: Stack, environment: dict[str, str]) -> None:
    statements = layouts.KOMMO_GOOD + "ALTER TABLE kommo_messages DROP COLUMN role;"
    with arrived(stack, environment, statements, "kommo", "--tenant", "Tienda", "--new-tenant", code=1) as (
        ours,
        _,
        output,
    ):
        tenant = ours.value("SELECT id FROM tenants WHERE name = 'Tienda'")
        assert f"Made tenant {tenant} (Tienda)." in output
        assert "table kommo_messages has no column role" in output
    with source_database(stack, layouts.KOMMO_GOOD) as source:
        ours.execute(
            f"""INSERT INTO channels (id, tenant_id, provider, kind, address, credentials)
            SELECT gen_random_uuid(), '{tenant}', 'twilio', 'whatsapp', '+1415000000' || n, 'sealed'
            FROM generate_series(1, 2) n"""
        )
        output = moved(environment, "kommo", "--from", source.url, "--tenant", "Tienda", code=1)
        assert "has 2 whatsapp channels to choose from" in output
        assert "Made kommo channel" in output
        assert "Made meta channel" in output
