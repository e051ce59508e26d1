"""`palomar import campaigns`: tenants with contacts, groups, campaigns, a history of messages, and webhooks."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from ops.local.stack import Stack
from shared.crypto import KeyRing
from tests.imports import layouts
from tests.imports.importing import Ours, SourceDatabase, furnish, moved, source_database


def an_id(kind: str, number: int) -> UUID:
    return UUID(f"{kind}0000000-0000-4000-8000-{number:012d}")


@pytest.fixture
def source(stack: Stack) -> Iterator[SourceDatabase]:
    with source_database(stack, layouts.CAMPAIGNS) as made:
        yield made


@pytest.fixture
def ours(environment: dict[str, str], source: SourceDatabase) -> Ours:
    furnish(environment)
    moved(environment, "campaigns", "--from", source.url, "--batch", "50")
    return Ours(environment)


def one(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return row


def test_contacts_and_groups_are_what_they_were(ours: Ours) -> None:
    contact = one(ours.rows("SELECT * FROM contacts WHERE id = %s", an_id("c", 3)))
    assert (contact["tenant_id"], contact["phone_number"], contact["name"]) == (
        an_id("a", 1),
        "+14155550003",
        "Contact 3",
    )
    group = one(ours.rows("SELECT * FROM groups WHERE id = %s", an_id("9", 1)))
    assert (group["tenant_id"], group["name"], group["description"]) == (an_id("a", 1), "Everybody", "of tenant 1")
    members = ours.rows("SELECT tenant_id, group_id, count(*) FROM group_contacts GROUP BY 1, 2 ORDER BY 2")
    assert [tuple(row.values()) for row in members] == [
        (an_id("a", 1), an_id("9", 1), 51),
        (an_id("a", 2), an_id("9", 2), 50),
    ]


def test_a_contact_who_was_deleted_and_came_back_is_there(ours: Ours) -> None:
    """The same person, the number written in two ways, the deleted row before the live one."""
    address = one(ours.rows("SELECT * FROM contact_addresses WHERE canonical = '+525512345678'"))
    assert address["contact_id"] == an_id("1", 1)
    assert ours.value("SELECT deleted_at FROM contacts WHERE id = %s", address["contact_id"]) is None
    assert ours.rows("SELECT id FROM contacts WHERE id = %s", an_id("c", 500)) == []


def test_no_campaign_starts_or_goes_on_by_itself(ours: Ours) -> None:
    campaigns = ours.rows("SELECT * FROM campaigns ORDER BY id")
    assert [(row["name"], row["status"], row["due_at"]) for row in campaigns] == [
        ("Done", "completed", None),
        ("Under way", "paused", None),
        ("Tomorrow", "draft", None),
    ]
    assert campaigns[2]["scheduled_at"] is not None, "when it was meant for is kept"
    assert campaigns[0]["message_template_id"] == an_id("7", 1)
    assert campaigns[0]["whatsapp_instance_id"] == an_id("e", 1)
    counted = ours.rows("SELECT campaign_id, status, count(*) FROM campaign_recipients GROUP BY 1, 2 ORDER BY 1, 2")
    assert [tuple(row.values()) for row in counted] == [
        (an_id("d", 1), "delivered", 25),
        (an_id("d", 1), "failed", 25),
        (an_id("d", 2), "canceled", 25),
        (an_id("d", 2), "sent", 25),
        (an_id("d", 3), "pending", 50),
    ]


def test_the_history_becomes_conversations_by_instance_and_number(ours: Ours) -> None:
    history = ours.rows(
        "SELECT * FROM messages_history WHERE tenant_id = %s AND message_id LIKE 'wa-3-%%' ORDER BY created_at",
        an_id("a", 1),
    )
    assert [(row["direction"], row["type"], row["status"]) for row in history] == [
        ("inbound", "audio", "received"),
        ("outbound", "text", "read"),
        ("outbound", "text", "failed"),
    ]
    assert {row["whatsapp_instance_id"] for row in history} == {an_id("e", 1)}
    assert {row["contact_id"] for row in history} == {an_id("c", 3)}
    assert ours.value("SELECT error_code FROM messages WHERE external_id = 'wa-3-3'") == "imported"
    # Without a contact in the history, the person is found by the number.
    talk = one(ours.rows("SELECT * FROM conversations WHERE address = '+14155550004'"))
    assert (talk["tenant_id"], talk["contact_id"]) == (an_id("a", 2), an_id("c", 4))
    assert ours.value("SELECT count(*) FROM conversations WHERE tenant_id = %s", an_id("a", 1)) == 51


def test_webhooks_keep_their_secret_and_their_logs(ours: Ours, environment: dict[str, str]) -> None:
    webhook = one(ours.rows("SELECT * FROM webhooks"))
    assert (webhook["url"], webhook["events"]) == (
        "https://shop.example.com/in",
        ["contact_created", "campaign_updated"],
    )
    keys = KeyRing.parse(environment["PALOMAR_SECRET_KEYS"])
    assert keys.open(webhook["sealed_secret"], tenant_id=an_id("a", 1), owner=webhook["id"]) == "the-secret"
    log = one(ours.rows("SELECT * FROM webhook_logs WHERE id = %s", an_id("6", 2)))
    assert (log["payload"], log["status_code"], log["success"]) == ({"n": 2}, 200, True)
    unfinished = one(ours.rows("SELECT * FROM webhook_logs WHERE id = %s", an_id("6", 4)))
    assert (unfinished["success"], unfinished["due_at"]) == (False, None)


def test_columns_in_camel_case_are_the_same_columns(
    stack: Stack, environment: dict[str, str], source: SourceDatabase
) -> None:
    """The document names fields, which some of its systems have as columns: `tenantId`."""
    renames = [
        f'ALTER TABLE {row["table_name"]} RENAME {row["column_name"]} TO "{_camel(row["column_name"])}";'
        for row in source.rows(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND column_name LIKE '%\\_%'"
        )
    ]
    furnish(environment)
    first = moved(environment, "campaigns", "--from", source.url)
    source.execute("".join(renames))
    assert "✗" not in first + moved(environment, "campaigns", "--from", source.url)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))
