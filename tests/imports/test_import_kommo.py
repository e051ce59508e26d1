"""`palomar import kommo` and `kommo-twilio`: the two tables with three providers."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from ops.local.stack import Stack
from tests.imports import layouts
from tests.imports.importing import SHOP, Ours, SourceDatabase, counts, furnish, moved, source_database


@pytest.fixture
def source(stack: Stack) -> Iterator[SourceDatabase]:
    with source_database(stack, layouts.KOMMO) as made:
        yield made


@pytest.fixture
def ours(environment: dict[str, str], source: SourceDatabase) -> Ours:
    furnish(environment)
    moved(environment, "kommo-twilio", "--from", source.url, "--tenant", "Shop", "--batch", "50")
    return Ours(environment)


def one(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return row


def conversation(ours: Ours, number: str) -> dict[str, Any]:
    return one(ours.rows("SELECT * FROM conversations WHERE tenant_id = %s AND id = %s", SHOP, number))


def test_a_conversation_is_what_it_was(ours: Ours, source: SourceDatabase) -> None:
    number = "00000000-0000-4000-8000-000000000070"
    there = one(source.rows(f"SELECT * FROM kommo_conversations WHERE id = '{number}'"))
    here = conversation(ours, number)
    for name in ("provider", "kommo_chat_id", "phone", "contact_name", "status", "created_at"):
        assert here[name] == there[name], name
    assert here["metadata"] == {"lead": 70}
    assert here["address"] == "+525500000070", "one person, however the number is written"
    assert here["recipient"] == "+5215500000070", "and written to as they wrote"
    assert here["last_message_at"] == there["last_message_at"]
    addresses = ours.rows(
        "SELECT kind, canonical FROM contact_addresses WHERE contact_id = %s ORDER BY kind", here["contact_id"]
    )
    assert [tuple(row.values()) for row in addresses] == [("kommo_chat", "chat-70"), ("phone", "+525500000070")]


def test_messages_keep_their_words_their_side_and_their_time(ours: Ours, source: SourceDatabase) -> None:
    number = "00000000-0000-4000-8000-000000000007"
    there = source.rows(f"SELECT * FROM kommo_messages WHERE conversation_id = '{number}' ORDER BY id")
    here = ours.rows("SELECT * FROM messages WHERE conversation_id = %s ORDER BY id", number)
    for name in ("id", "role", "content", "message_type", "provider", "created_at"):
        assert [row[name] for row in here] == [row[name] for row in there], name
    assert [row["status"] for row in here] == ["received", "sent", "received", "sent"]
    assert [row["out_seq"] for row in here] == [None, 1, None, 2], "later messages line up behind them"


def test_the_window_is_open_as_long_as_it_was(ours: Ours, source: SourceDatabase) -> None:
    """By the newest message of the customer's, not by the time of the import."""
    newest = source.rows(
        "SELECT conversation_id AS id, max(created_at) AS at FROM kommo_messages WHERE role = 'user' "
        "AND conversation_id::text LIKE '00000000-0000-4000-8000-%' GROUP BY 1"
    )
    here = {row["id"]: row["last_user_message_at"] for row in ours.rows("SELECT * FROM conversations")}
    newest = [row for row in newest if not str(row["id"]).endswith("000000000001")]  # that person has two
    assert len(newest) == 109
    assert [here[row["id"]] for row in newest] == [row["at"] for row in newest]
    open_ = "SELECT count(*) FROM conversations WHERE last_user_message_at > now() - interval '24 hours'"
    assert ours.value(open_) == 23, "the customers of the last day, and nobody else"


def test_a_person_with_two_ways_to_write_the_number_is_one(ours: Ours) -> None:
    first = conversation(ours, "00000000-0000-4000-8000-000000000001")
    assert ours.rows("SELECT id FROM conversations WHERE id = '00000000-0000-4000-a000-000000000005'") == []
    message = one(ours.rows("SELECT * FROM messages WHERE id = '00000000-0000-4000-b000-000000000006'"))
    assert message["conversation_id"] == first["id"]
    people = "SELECT count(*) FROM contact_addresses WHERE tenant_id = %s AND canonical = '+525500000001'"
    assert ours.value(people, SHOP) == 1


def test_a_message_from_the_future_is_kept_and_opens_no_window(ours: Ours) -> None:
    here = conversation(ours, "00000000-0000-4000-a000-000000000006")
    messages = ours.rows("SELECT * FROM messages WHERE conversation_id = %s ORDER BY id", here["id"])
    assert [row["content"] for row in messages] == ["tomorrow", "at last"]
    assert {row["created_at"] for row in messages} == {here["created_at"]}
    assert here["last_user_message_at"] < here["created_at"] - timedelta(days=1)


def test_broken_rows_are_mended_and_reported(environment: dict[str, str], source: SourceDatabase) -> None:
    furnish(environment)
    output = moved(environment, "kommo-twilio", "--from", source.url, "--tenant", "Shop")
    ours = Ours(environment)
    assert "kommo_conversations: 1 skipped: unknown provider\n" in output
    assert "kommo_conversations: 2 mended: no usable address: a closed record\n" in output
    assert "kommo_conversations: 2 mended: number that is no phone number: left out\n" in output
    assert conversation(ours, "00000000-0000-4000-a000-000000000004")["address"] == "chat-x"
    assert "kommo_messages: 2 skipped: its conversation is missing, or was skipped\n" in output
    assert "kommo_messages: 1 skipped: unknown role\n" in output
    assert "kommo_messages: 1 mended: NUL replaced\n" in output
    nul = one(ours.rows("SELECT metadata FROM messages WHERE content = 'a NUL'"))
    assert nul["metadata"] == {"note": "a\ufffdb"}
    assert "kommo_messages: 1 mended: text too long: cut\n" in output
    assert ours.value("SELECT length(content) FROM messages WHERE role = 'system'") == 100_000


def test_each_provider_has_a_channel_that_neither_sends_nor_answers(ours: Ours) -> None:
    channels = ours.rows("SELECT * FROM channels WHERE tenant_id = %s ORDER BY provider", SHOP)
    assert [(row["provider"], row["kind"], row["status"]) for row in channels] == [
        ("kommo", "whatsapp", "stopped"),
        ("meta", "whatsapp", "stopped"),
        ("twilio", "whatsapp", "stopped"),
    ]
    assert all(row["settings"] == {"reply": {"engine": "none"}} for row in channels)


def test_tables_from_before_the_migration_are_all_kommos(stack: Stack, environment: dict[str, str]) -> None:
    furnish(environment)
    before = (
        layouts.KOMMO_TABLES
        + """
        ALTER TABLE kommo_conversations DROP COLUMN provider, DROP COLUMN last_user_message_at;
        ALTER TABLE kommo_messages DROP COLUMN provider, DROP COLUMN message_type;
        INSERT INTO kommo_conversations (id, kommo_chat_id, phone, created_at)
        VALUES ('00000000-0000-4000-8000-000000000001', 'chat-1', '+5215500000001', now() - interval '1 day');
        INSERT INTO kommo_messages (id, conversation_id, role, content, created_at)
        VALUES ('00000000-0000-4000-9000-000000000001', '00000000-0000-4000-8000-000000000001', 'user', 'hola', now());
        """
    )
    with source_database(stack, before) as source:
        refused = moved(environment, "kommo-twilio", "--from", source.url, "--tenant", "Shop", code=1)
        assert "table kommo_conversations has no column provider" in refused
        output = moved(environment, "kommo", "--from", source.url, "--tenant", "Shop")
    assert counts(output) == {"kommo_conversations": (1, 1, 1, 0, 0), "kommo_messages": (1, 1, 1, 0, 0)}
    here = conversation(Ours(environment), "00000000-0000-4000-8000-000000000001")
    assert (here["provider"], here["kommo_chat_id"], here["user_message_count"]) == ("kommo", "chat-1", 1)
