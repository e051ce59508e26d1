"""`palomar import whatsapp-module`: settings become a channel, sessions a bot's place and a conversation."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from ops.local.stack import Stack
from shared.crypto import KeyRing
from tests.imports import layouts
from tests.imports.importing import SHOP, Ours, SourceDatabase, counts, furnish, moved, source_database

CHANNEL = UUID("00000000-0000-4000-8000-0000000000a1")


@pytest.fixture
def source(stack: Stack) -> Iterator[SourceDatabase]:
    with source_database(stack, layouts.WHATSAPP_MODULE) as made:
        yield made


def imported(environment: dict[str, str], source: SourceDatabase, *more: str) -> str:
    return moved(environment, "whatsapp-module", "--from", source.url, "--tenant", "Shop", *more)


def one(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return row


def test_settings_become_a_channel_whose_secrets_are_sealed(
    environment: dict[str, str], source: SourceDatabase
) -> None:
    furnish(environment)
    output = imported(environment, source)
    channels = Ours(environment).rows("SELECT * FROM channels WHERE tenant_id = %s ORDER BY id", SHOP)
    assert [(row["id"], row["provider"], row["address"], row["status"]) for row in channels] == [
        (CHANNEL, "meta", "109876543210", "active"),
        (UUID("00000000-0000-4000-8000-0000000000a2"), "meta", "100000000000", "stopped"),
    ]
    assert (channels[0]["business_id"], channels[0]["webhook_url"]) == ("business-1", "https://shop.example.com/hook")
    keys = KeyRing.parse(environment["PALOMAR_SECRET_KEYS"])
    opened = orjson.loads(keys.open(channels[0]["credentials"], tenant_id=SHOP, owner=CHANNEL))
    assert opened == {
        "api_key": "the-api-key",
        "access_token": "the-access-token",
        "webhook_token": "the-webhook-token",
    }
    stored = str(Ours(environment).everything())
    assert all(secret not in stored + output for secret in opened.values()), "nowhere in clear"


def test_a_session_is_a_place_and_a_conversation(environment: dict[str, str], source: SourceDatabase) -> None:
    furnish(environment)
    imported(environment, source)
    ours = Ours(environment)
    session = one(ours.rows("SELECT * FROM sessions WHERE phone_number = '+5215500000004'"))
    assert session["id"] == UUID("00000000-0000-4000-8000-000000000004")
    assert (session["state"], session["context_data"]) == ("BROWSING_CATEGORIES", {"cart": 4})
    talk = one(ours.rows("SELECT * FROM conversations WHERE id = %s", session["conversation_id"]))
    assert (talk["channel_id"], talk["address"], talk["contact_id"]) == (
        CHANNEL,
        "+525500000004",
        session["contact_id"],
    )
    assert talk["metadata"] == {"customer_profile_id": "profile-4"}
    # Prisma writes UTC without saying so.
    assert talk["last_user_message_at"] == datetime(2026, 2, 1, 9, 3, tzinfo=UTC)
    assert talk["last_message_at"] == datetime(2026, 2, 1, 10, 0, tzinfo=UTC)
    messages = ours.rows("SELECT * FROM whatsapp_messages WHERE session_id = %s ORDER BY created_at", session["id"])
    assert [(row["message_id"], row["direction"], row["message_type"]) for row in messages] == [
        ("wamid.4.1", "INBOUND", "text"),
        ("wamid.4.2", "OUTBOUND", "button"),
        ("wamid.4.3", "INBOUND", "image"),
        ("wamid.4.4", "OUTBOUND", "unsupported"),
    ]


def test_ids_that_are_no_uuids_lead_to_the_same_ones_each_time(
    environment: dict[str, str], source: SourceDatabase
) -> None:
    furnish(environment)
    imported(environment, source)
    ours = Ours(environment)
    talked = (
        "SELECT count(*) FROM messages m JOIN sessions s USING (conversation_id) "
        "WHERE s.phone_number = '+5215500000003'"
    )
    assert ours.value(talked) == 4
    imported(environment, source)
    assert ours.value(talked) == 4
    assert ours.value("SELECT count(*) FROM sessions WHERE phone_number = '+5215500000003'") == 1


def test_a_person_with_two_sessions_has_one_here(environment: dict[str, str], source: SourceDatabase) -> None:
    furnish(environment)
    imported(environment, source)
    rows = Ours(environment).rows(
        "SELECT session_id FROM whatsapp_messages WHERE message_id IN ('wamid.1.1', 'wamid.same')"
    )
    assert [str(row["session_id"]) for row in rows] == ["00000000-0000-4000-8000-000000000001"] * 2


def test_what_had_come_already_is_joined_and_not_doubled(environment: dict[str, str], source: SourceDatabase) -> None:
    """The number is in use here: a customer has written, their message is in the source as well, a reply is owed."""
    furnish(environment)
    ours = Ours(environment)
    live, received_at = UUID(int=0xA11CE), datetime(2026, 2, 1, 9, 1, tzinfo=UTC)
    ours.execute(
        f"""
        INSERT INTO channels (id, tenant_id, provider, kind, address, credentials)
        VALUES ('{live}', '{SHOP}', 'meta', 'whatsapp', '109876543210', 'sealed');
        INSERT INTO contacts (id, tenant_id, name, phone_number) VALUES ('{live}', '{SHOP}', 'Ana', '+525500000001');
        INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
        VALUES ('{SHOP}', 'phone', '+525500000001', '+525500000001', '{live}');
        INSERT INTO conversations (id, tenant_id, channel_id, contact_id, provider, address, recipient, phone,
            reply_due_at)
        VALUES ('{live}', '{SHOP}', '{live}', '{live}', 'meta', '+525500000001', '+525500000001', '+525500000001',
            '2099-01-01');
        INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content,
            external_id, provider_timestamp)
        VALUES ('{live}', '{SHOP}', '{live}', '{live}', 'meta', 'inbound', 'user', 'received', 'message 1', 'wamid.1.1',
            '{received_at}');
        """
    )
    output = imported(environment, source)
    assert counts(output) == {
        "whatsapp_settings": (2, 2, 1, 1, 0),
        "whatsapp_sessions": (92, 92, 91, 1, 0),
        "whatsapp_messages": (363, 363, 362, 1, 0),
    }
    assert ours.value("SELECT id FROM messages WHERE external_id = 'wamid.1.1'") == live
    talk = one(ours.rows("SELECT * FROM conversations WHERE address = '+525500000001' AND tenant_id = %s", SHOP))
    assert talk["id"] == live
    assert ours.value("SELECT count(*) FROM messages WHERE conversation_id = %s", live) == 6
    assert talk["reply_due_at"] is not None, "what is owed is owed still"
    assert talk["user_message_count"] - talk["answered_count"] == 1
    assert talk["last_user_message_at"] == datetime(2026, 2, 1, 9, 30, tzinfo=UTC)
    again = counts(imported(environment, source))
    assert again["whatsapp_messages"] == (363, 363, 0, 363, 0)
