"""`palomar import distributors`: each distributor becomes a tenant, with customers, conversations and messages."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from ops.local.stack import Stack
from tests.imports import layouts
from tests.imports.importing import Ours, SourceDatabase, furnish, moved, source_database

NORTH = UUID("00000000-0000-4000-8000-0000000000d1")
NAMELESS = UUID("00000000-0000-4000-8000-0000000000d2")


@pytest.fixture
def source(stack: Stack) -> Iterator[SourceDatabase]:
    with source_database(stack, layouts.DISTRIBUTORS) as made:
        yield made


@pytest.fixture
def ours(environment: dict[str, str], source: SourceDatabase) -> Ours:
    furnish(environment)
    moved(environment, "distributors", "--from", source.url, "--batch", "50")
    return Ours(environment)


def one(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return row


def test_each_distributor_is_a_tenant_with_its_own_people(ours: Ours) -> None:
    names = {row["id"]: row["name"] for row in ours.rows("SELECT id, name FROM tenants")}
    assert names[NORTH] == "North"
    assert names[NAMELESS] == f"distributors {NAMELESS}"
    shares = ours.rows("SELECT tenant_id, count(*) FROM conversations GROUP BY 1 ORDER BY 1")
    assert {row["tenant_id"]: row["count"] for row in shares if row["tenant_id"] in names} | {} == {
        row["tenant_id"]: row["count"] for row in shares
    }
    assert [row["count"] for row in shares if row["tenant_id"] in (NORTH, NAMELESS)] == [62, 60]
    strays = "messages m JOIN conversations c ON c.id = m.conversation_id WHERE c.tenant_id <> m.tenant_id"
    assert ours.value(f"SELECT count(*) FROM {strays}") == 0


def test_a_customer_keeps_id_name_number_and_mail(ours: Ours) -> None:
    customer = one(ours.rows("SELECT * FROM contacts WHERE id = '00000000-0000-4000-c000-000000000007'"))
    assert (customer["tenant_id"], customer["name"], customer["phone_number"]) == (
        NAMELESS,
        "Customer 7",
        "+14155550007",
    )
    addresses = ours.rows("SELECT kind, canonical, given FROM contact_addresses WHERE contact_id = %s", customer["id"])
    assert sorted(tuple(row.values()) for row in addresses) == [
        ("email", "c7@example.com", "c7@Example.com"),
        ("phone", "+14155550007", "+14155550007"),
    ]
    nobody = one(ours.rows("SELECT * FROM contacts WHERE name = 'no address'"))
    assert nobody["phone_number"] is None


def test_a_conversation_is_in_its_channel_with_its_summary_and_its_unread(ours: Ours) -> None:
    expected = {6: "whatsapp", 5: "sms", 7: "email"}
    for number, kind in expected.items():
        talk = one(
            ours.rows("SELECT * FROM conversations WHERE id = %s", UUID(f"00000000-0000-4000-8000-{number:012d}"))
        )
        channel = one(ours.rows("SELECT * FROM channels WHERE id = %s", talk["channel_id"]))
        assert (channel["kind"], channel["tenant_id"]) == (kind, talk["tenant_id"])
        assert talk["contact_id"] == UUID(f"00000000-0000-4000-c000-{number:012d}")
        assert (talk["ai_context_summary"], talk["unread_count"]) == (f"summary {number}", number % 4)
        assert talk["recipient"] == ("c7@Example.com" if kind == "email" else f"+1415555{number:04d}")


def test_messages_keep_type_status_and_what_the_ai_made_of_them(ours: Ours) -> None:
    messages = ours.rows("SELECT * FROM messages WHERE external_id LIKE 'SM6-%' ORDER BY id")
    assert [(row["role"], row["status"], row["message_type"], row["ai_processing_status"]) for row in messages] == [
        ("user", "received", "text", "completed"),
        ("assistant", "delivered", "file", "pending"),
        ("user", "received", "audio", "pending"),
    ]


def test_what_was_still_to_be_sent_there_is_a_failed_record_here(ours: Ours) -> None:
    waiting = one(ours.rows("SELECT * FROM messages WHERE content = 'never sent'"))
    assert (waiting["status"], waiting["error_code"], waiting["sent_at"]) == ("failed", "imported", None)
    refused = one(ours.rows("SELECT * FROM messages WHERE content = 'refused'"))
    assert (refused["status"], refused["error_code"], refused["message_type"]) == (
        "failed",
        "failed_before_import",
        "unsupported",
    )
    assert refused["external_id"] is None, "an id of four thousand characters is none"


def test_a_message_that_came_twice_there_is_one_here(ours: Ours) -> None:
    assert ours.value("SELECT count(*) FROM messages WHERE external_id = 'SM2-1'") == 1
