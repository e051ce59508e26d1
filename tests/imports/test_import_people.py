"""One person who is two in the source is one contact here, with all that the source has of both; once."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from ops.local.stack import Stack
from tests.imports import layouts
from tests.imports.importing import Ours, SourceDatabase, counts, furnish, killed_midway, moved, source_database

NORTH = UUID("00000000-0000-4000-8000-0000000000d1")
TENANT = UUID("a0000000-0000-4000-8000-000000000001")


@pytest.fixture
def distributors(stack: Stack, environment: dict[str, str]) -> Iterator[SourceDatabase]:
    furnish(environment)
    with source_database(stack, layouts.DISTRIBUTORS) as made:
        yield made


@pytest.fixture
def campaigns(stack: Stack, environment: dict[str, str]) -> Iterator[SourceDatabase]:
    furnish(environment)
    with source_database(stack, layouts.CAMPAIGNS) as made:
        yield made


def customer(number: int) -> UUID:
    return UUID(f"00000000-0000-4000-c000-00000000e{number:03}")


def an_id(kind: str, number: int) -> UUID:
    return UUID(f"{kind}0000000-0000-4000-8000-{number:012d}")


@pytest.mark.parametrize("batch", [1, 500])
def test_a_third_row_that_shows_two_to_be_one_loses_nothing_of_either(
    environment: dict[str, str], distributors: SourceDatabase, batch: int
) -> None:
    by_number, by_mail, both = customer(1), customer(2), customer(3)
    distributors.execute(
        f"""
        DELETE FROM messages; DELETE FROM conversations; DELETE FROM customers WHERE id::text NOT LIKE '%f001';
        ALTER TABLE customers ADD shoe_size integer, ADD city text;
        INSERT INTO customers (id, distributor_id, name, phone, email, created_at, shoe_size, city) VALUES
            ('{by_number}', '{NORTH}', 'Ana', '+14155559001', NULL, '2026-01-02', 38, NULL),
            ('{by_mail}', '{NORTH}', 'Ana P', NULL, 'ana@example.com', '2026-01-01', NULL, 'Lima'),
            ('{both}', '{NORTH}', 'Ana Pérez', '+1 (415) 555-9001', 'Ana@Example.com', '2026-01-03', 39, 'Cusco');
        -- The SMS of the one who has no number is a closed record.
        INSERT INTO conversations (id, customer_id, distributor_id, channel, created_at)
        SELECT ('00000000-0000-4000-8000-00000000e00' || n)::uuid, who::uuid, '{NORTH}', channel, '2026-01-01'
        FROM (VALUES (1, '{by_number}', 'WHATSAPP'), (2, '{by_mail}', 'EMAIL'), (3, '{both}', 'SMS'),
            (4, '{by_mail}', 'SMS')) AS given (n, who, channel);
        INSERT INTO messages (id, conversation_id, content, message_type, is_from_customer, created_at)
        SELECT gen_random_uuid(), id, 'hola', 'TEXT', true, created_at FROM conversations;
        """
    )
    output = moved(environment, "distributors", "--from", distributors.url, "--batch", str(batch))
    assert "✗" not in output
    ours = Ours(environment)
    (contact,) = ours.rows("SELECT * FROM contacts WHERE tenant_id = %s AND name <> 'no address'", NORTH)
    assert contact["metadata"]["imported"]["city"] in ("Lima", "Cusco")
    assert contact["metadata"]["imported"]["shoe_size"] == 38
    addresses = ours.rows("SELECT canonical FROM contact_addresses WHERE contact_id = %s ORDER BY 1", contact["id"])
    assert [row["canonical"] for row in addresses] == ["+14155559001", "ana@example.com"]
    talks = ours.rows(
        "SELECT contact_id, status, (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id) AS messages "
        "FROM conversations c WHERE tenant_id = %s ORDER BY id",
        NORTH,
    )
    assert [(row["contact_id"], row["messages"]) for row in talks] == [(contact["id"], 1)] * 4
    assert [row["status"] for row in talks] == ["active", "active", "active", "closed"]
    before = ours.everything()
    again = moved(environment, "distributors", "--from", distributors.url, "--batch", str(batch))
    assert "✗" not in again
    assert counts(again)["customers"][2] == 0
    assert ours.everything() == before


def test_a_number_in_two_spellings_brings_the_groups_campaigns_and_talk_of_both(
    environment: dict[str, str], campaigns: SourceDatabase
) -> None:
    first, second = an_id("c", 701), an_id("c", 702)
    campaigns.execute(
        f"""
        INSERT INTO contacts (id, tenant_id, phone_number, name) VALUES
            ('{first}', '{TENANT}', '+5215599998888', 'Luis'), ('{second}', '{TENANT}', '+52 55 9999 8888', NULL);
        INSERT INTO groups (id, tenant_id, name) VALUES ('{an_id("9", 70)}', '{TENANT}', 'Second');
        INSERT INTO group_contacts VALUES ('{an_id("9", 1)}', '{first}'), ('{an_id("9", 70)}', '{second}');
        INSERT INTO campaign_recipients (id, campaign_id, contact_id, status) VALUES
            ('{an_id("f", 7001)}', '{an_id("d", 1)}', '{first}', 'sent'),
            ('{an_id("f", 7002)}', '{an_id("d", 2)}', '{second}', 'sent');
        INSERT INTO messages_history (id, tenant_id, whatsapp_instance_id, contact_id, message_id, chat_id, direction,
            type, content) VALUES
            ('{an_id("b", 7001)}', '{TENANT}', '{an_id("e", 1)}', '{first}', 'l-1', '5215599998888@c.us', 'inbound',
                'chat', 'uno'),
            ('{an_id("b", 7002)}', '{TENANT}', '{an_id("e", 1)}', '{second}', 'l-2', '525599998888@c.us', 'inbound',
                'chat', 'dos');
        """
    )
    moved(environment, "campaigns", "--from", campaigns.url, "--batch", "1000")
    ours = Ours(environment)
    assert holdings(ours, first) == (["Everybody", "Second"], ["Done", "Under way"], ["dos", "uno"])
    assert ours.rows("SELECT FROM contacts WHERE id = %s", second) == []
    before = ours.everything()
    moved(environment, "campaigns", "--from", campaigns.url, "--batch", "1000")
    assert ours.everything() == before


def test_people_whom_a_webhook_joins_during_an_import_lose_nothing_that_comes_later(
    environment: dict[str, str], campaigns: SourceDatabase
) -> None:
    """One of them has an address, the other has none."""
    stays, joined, nameless = an_id("c", 1), an_id("c", 3), an_id("c", 501)
    campaigns.execute(
        f"""
        INSERT INTO groups (id, tenant_id, name) VALUES
            ('{an_id("9", 70)}', '{TENANT}', 'Of one'), ('{an_id("9", 71)}', '{TENANT}', 'Of the other');
        INSERT INTO group_contacts VALUES ('{an_id("9", 70)}', '{joined}'), ('{an_id("9", 71)}', '{nameless}');
        """
    )
    ours = Ours(environment)
    killed_midway(environment, "campaigns", "--from", campaigns.url, table="groups", row=an_id("9", 1))
    ours.execute(
        f"""
        UPDATE contacts SET created_at = '2020-01-01' WHERE id = '{stays}';
        INSERT INTO consents (tenant_id, contact_id, channel_kind, state, source)
        VALUES ('{TENANT}', '{nameless}', 'whatsapp', 'opted_out', 'api');
        SELECT join_contacts('{TENANT}', '{stays}', '{joined}'), join_contacts('{TENANT}', '{stays}', '{nameless}');
        """
    )
    output = moved(environment, "campaigns", "--from", campaigns.url)
    groups, campaigns_, texts = holdings(ours, stays)
    assert groups == ["Everybody", "Of one", "Of the other"]
    assert campaigns_ == ["Done", "Under way"]
    assert texts.count("message 1") == 2
    assert ours.value("SELECT count(*) FROM consents WHERE contact_id = %s", stays) == 1
    assert ours.rows("SELECT FROM contacts WHERE id IN (%s, %s)", joined, nameless) == []
    before = ours.everything()
    again = moved(environment, "campaigns", "--from", campaigns.url)
    assert counts(again)["contacts"][1] == counts(output)["contacts"][1]
    assert ours.everything() == before


def holdings(ours: Ours, contact: UUID) -> tuple[list[str], list[str], list[str]]:
    """A contact's groups, campaigns and what was said in their conversations, each sorted."""
    queries = (
        "SELECT g.name AS it FROM group_contacts JOIN groups g ON g.id = group_id WHERE contact_id = %s ORDER BY 1",
        "SELECT k.name AS it FROM campaign_recipients JOIN campaigns k ON k.id = campaign_id WHERE contact_id = %s "
        "ORDER BY 1",
        "SELECT m.content AS it FROM conversations c JOIN messages m ON m.conversation_id = c.id "
        "WHERE c.contact_id = %s ORDER BY 1",
    )
    groups, campaigns, texts = ([row["it"] for row in ours.rows(query, contact)] for query in queries)
    return groups, campaigns, texts


def test_who_had_said_stop_in_the_other_system_is_stopped_here(
    environment: dict[str, str], distributors: SourceDatabase
) -> None:
    stopped, back, shared, mailed = map(customer, range(801, 805))
    distributors.execute(
        f"""
        DELETE FROM messages; DELETE FROM conversations; DELETE FROM customers WHERE id::text NOT LIKE '%f001';
        INSERT INTO customers (id, distributor_id, name, phone, email, created_at) VALUES
            ('{stopped}', '{NORTH}', 'Ana', '+14155559801', NULL, '2026-01-01'),
            ('{back}', '{NORTH}', 'Luis', '+14155559802', NULL, '2026-01-01'),
            ('{shared}', '{NORTH}', 'Eva', '+14155559803', NULL, '2026-01-01'),
            ('{mailed}', '{NORTH}', 'Iris', NULL, 'iris@example.com', '2026-01-01');
        INSERT INTO conversations (id, customer_id, distributor_id, channel, created_at)
        SELECT who, who, '{NORTH}', channel, '2026-01-01' FROM (VALUES ('{stopped}'::uuid, 'WHATSAPP'),
            ('{back}', 'SMS'), ('{shared}', 'WHATSAPP'), ('{mailed}', 'EMAIL')) AS given (who, channel);
        INSERT INTO messages (id, conversation_id, content, message_type, is_from_customer, created_at)
        SELECT gen_random_uuid(), who, content, kind, inbound, at::timestamp FROM (VALUES
            ('{stopped}'::uuid, 'Baja', 'TEXT', true, '2026-01-02'),
            ('{stopped}', 'START', 'TEXT', false, '2026-01-03'),
            ('{back}', 'stop', 'TEXT', true, '2026-01-02'), ('{back}', 'start', 'TEXT', true, '2026-01-03'),
            ('{shared}', 'STOP', 'CONTACT', true, '2026-01-02'), ('{shared}', 'hola', 'TEXT', true, '2026-01-03'),
            ('{mailed}', 'stop promotions', 'TEXT', true, '2026-01-02'),
            ('{mailed}', 'START', 'TEXT', true, '2026-01-03')
        ) AS given (who, content, kind, inbound, at);
        """
    )
    for _ in range(2):
        moved(environment, "distributors", "--from", distributors.url)
        rows = Ours(environment).rows(
            "SELECT c.name, k.channel_kind, k.scope, k.state, k.source, k.effective_at::date::text AS day, "
            "m.id IS NOT NULL AS has_message FROM consents k JOIN contacts c ON c.id = k.contact_id "
            "LEFT JOIN messages m ON m.id = k.message_id ORDER BY c.name, k.effective_at"
        )
        assert [tuple(row.values()) for row in rows] == [
            ("Ana", "whatsapp", "all", "opted_out", "import", "2026-01-02", True),
            ("Iris", "email", "marketing", "opted_out", "import", "2026-01-02", True),
            ("Luis", "sms", "all", "opted_out", "import", "2026-01-02", True),
            ("Luis", "sms", "all", "opted_in", "import", "2026-01-03", True),
        ]


@pytest.mark.parametrize("batch", [1, 500])
def test_messages_under_one_providers_id_that_are_not_one_message_all_come_over(
    environment: dict[str, str], distributors: SourceDatabase, batch: int
) -> None:
    distributors.execute(
        f"""
        DELETE FROM messages; DELETE FROM conversations; DELETE FROM customers WHERE id::text NOT LIKE '%f001';
        INSERT INTO customers (id, distributor_id, name, phone, created_at)
        SELECT ('00000000-0000-4000-c000-00000000e90' || n)::uuid, '{NORTH}', 'Ana', '+1415555990' || n, '2026-01-01'
        FROM generate_series(1, 3) n;
        INSERT INTO conversations (id, customer_id, distributor_id, channel, created_at)
        SELECT id, id, '{NORTH}', 'WHATSAPP', '2026-01-01' FROM customers WHERE id::text LIKE '%e90_';
        INSERT INTO messages (id, conversation_id, content, message_type, is_from_customer, external_message_id,
            created_at)
        SELECT gen_random_uuid(), conversation_id, content, 'TEXT', inbound, external_id, '2026-01-02' FROM (VALUES
            ('{customer(901)}'::uuid, 'uno', false, 'unknown'), ('{customer(901)}', 'dos', true, 'unknown'),
            ('{customer(902)}', 'tres', false, 'unknown'), ('{customer(903)}', 'cuatro', true, 'wamid.1'),
            ('{customer(903)}', 'cuatro', true, 'wamid.1')
        ) AS given (conversation_id, content, inbound, external_id);
        """
    )
    output = moved(environment, "distributors", "--from", distributors.url, "--batch", str(batch))
    assert counts(output)["messages"] == (5, 5, 4, 1, 0)
    ours = Ours(environment)
    rows = ours.rows("SELECT content, external_id, metadata FROM messages WHERE tenant_id = %s ORDER BY content", NORTH)
    assert [row["content"] for row in rows] == ["cuatro", "dos", "tres", "uno"]
    assert sorted(str(row["external_id"]) for row in rows) == ["None", "None", "unknown", "wamid.1"]
    assert sum(row["metadata"].get("imported", {}).get("external_id") == "unknown" for row in rows) == 2
    moved(environment, "distributors", "--from", distributors.url, "--batch", str(batch))
    assert ours.value("SELECT count(*) FROM messages WHERE tenant_id = %s", NORTH) == 4


@pytest.mark.parametrize("batch", [1, 500])
def test_a_mail_address_that_people_of_several_numbers_have_makes_no_one_of_them(
    environment: dict[str, str], distributors: SourceDatabase, batch: int
) -> None:
    distributors.execute(
        f"""
        DELETE FROM messages; DELETE FROM conversations; DELETE FROM customers WHERE id::text NOT LIKE '%f001';
        INSERT INTO customers (id, distributor_id, name, phone, email, created_at)
        SELECT ('00000000-0000-4000-c000-00000000e80' || n)::uuid, '{NORTH}', 'Ana', '+1415555980' || n,
            'none@example.com', '2026-01-01'
        FROM generate_series(1, 3) n;
        """
    )
    for new in (3, 0):
        output = moved(environment, "distributors", "--from", distributors.url, "--batch", str(batch))
        assert "✗" not in output
        assert counts(output)["customers"][2] >= new
        rows = Ours(environment).rows(
            "SELECT metadata -> 'imported' ->> 'email' AS mail, array_agg(canonical ORDER BY canonical) AS addresses "
            "FROM contacts c JOIN contact_addresses a ON a.contact_id = c.id "
            "WHERE c.tenant_id = %s AND c.name = 'Ana' GROUP BY c.id, c.metadata ORDER BY c.id",
            NORTH,
        )
        assert [tuple(row.values()) for row in rows] == [
            (None, ["+14155559801", "none@example.com"]),
            ("none@example.com", ["+14155559802"]),
            ("none@example.com", ["+14155559803"]),
        ]
