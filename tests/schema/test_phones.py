"""One number has one spelling, E.164 with `+`, by SQL too; a session is its number's, whatever came first."""

from uuid import UUID

import psycopg
import pytest

from schema import migrate
from shared.domain import addresses
from tests.schema.office import Office, Session

BEFORE = "0030_phones"
NUMBER = "+5491123456789"
SPELLINGS = (
    "5491123456789", "+5491123456789", "+54 9 11 2345-6789", "541123456789", "5215512345678", "+525512345678",
    "558282136275", "+5582982136275", "551133334444", "+447700900123", "14155238886", "whatsapp:+34600000001", "22777",
    "+1 (415) 523-8886", "somebody", "12", "+999123456789",
)  # fmt: skip


@pytest.fixture
def channel(office: Office) -> UUID:
    """The tenant's one WhatsApp channel."""
    return office.channel("meta")


@pytest.mark.parametrize("written", SPELLINGS)
def test_sql_and_python_write_a_number_alike(office: Office, written: str) -> None:
    found = addresses.phone(written)
    with office.session() as sql:
        row = sql.one("SELECT phone_in_e164(%(written)s) AS phone", written=written)
    assert row == {"phone": found and found.given}


@pytest.mark.usefixtures("channel")
@pytest.mark.parametrize("written", ["5491123456789", "+5491123456789", "+54 9 11 2345-6789"])
def test_a_conversation_is_found_by_its_number_however_it_was_written(office: Office, written: str) -> None:
    with office.session() as sql:
        made = sql.one(
            "INSERT INTO kommo_conversations (provider, phone) VALUES ('meta', %(phone)s) RETURNING id, phone",
            phone=written,
        )
        assert made["phone"] == NUMBER
        found = "SELECT id FROM kommo_conversations WHERE provider = 'meta' AND phone = %(phone)s"
        assert sql.one(found, phone=NUMBER) == {"id": made["id"]}
        assert sql.one("SELECT phone_number FROM customers") == {"phone_number": NUMBER}
        assert sql.one("SELECT recipient, address FROM conversations") == {
            "recipient": NUMBER, "address": "+541123456789",
        }  # fmt: skip
        moved = "UPDATE kommo_conversations SET phone = '34 600 00 00 09' RETURNING phone"
        assert sql.one(moved) == {"phone": "+34600000009"}
        assert sql.one("SELECT recipient FROM conversations") == {"recipient": "+34600000009"}


def session(sql: Session, phone: str) -> UUID:
    made = sql.one("INSERT INTO whatsapp_sessions (phone_number) VALUES (%(phone)s) RETURNING id", phone=phone)
    return UUID(str(made["id"]))


@pytest.mark.usefixtures("channel")
def test_a_number_with_and_without_plus_is_one_session(office: Office) -> None:
    with office.session() as sql:
        first = session(sql, "5491123456789")
        with sql.refused(psycopg.errors.UniqueViolation, "sessions_phone"):
            session(sql, "+5491123456789")
        assert sql.one("SELECT id, phone_number FROM whatsapp_sessions") == {"id": first, "phone_number": NUMBER}
        assert sql.one(
            "INSERT INTO whatsapp_sessions (phone_number, state) VALUES ('+54 9 11 2345 6789', 'CHECKOUT') "
            "ON CONFLICT (tenant_id, channel_id, phone_number) DO UPDATE SET state = excluded.state RETURNING id"
        ) == {"id": first}


def test_a_session_made_first_shows_what_its_customer_writes_afterwards(office: Office, channel: UUID) -> None:
    """Into the conversation that a webhook finds, by its channel and canonical address."""
    with office.session() as sql:
        made = session(sql, "5491123456789")
    office.worker(
        "INSERT INTO messages (tenant_id, conversation_id, channel_id, provider, direction, role, status, content, "
        "external_id) SELECT tenant_id, id, channel_id, provider, 'inbound', 'user', 'received', 'Hola', 'wamid.1' "
        "FROM conversations WHERE channel_id = %(channel)s AND address = '+541123456789'",
        channel=channel,
    )
    with office.session() as sql:
        assert sql.one("SELECT session_id, content FROM whatsapp_messages") == {"session_id": made, "content": "Hola"}


@pytest.mark.usefixtures("channel")
def test_a_session_that_gets_another_number_shows_that_ones_messages(office: Office) -> None:
    with office.session() as sql:
        made = session(sql, "5491123456789")
        sql.all("UPDATE whatsapp_sessions SET phone_number = '34600000001' WHERE id = %(id)s", id=made)
        assert sql.one(
            "SELECT c.address, s.phone_number FROM sessions s JOIN conversations c ON c.id = s.conversation_id"
        ) == {"address": "+34600000001", "phone_number": "+34600000001"}


# -- what was there before the migration -------------------------------------------------------------------------------


def before(office: Office) -> None:
    names = [step.name for step in migrate.status(office.url)]
    migrate.rollback(office.url, len(names) - names.index(BEFORE))


def test_the_migration_writes_what_is_there_in_one_way(office: Office, channel: UUID) -> None:
    before(office)
    kommo = office.channel("kommo")
    with office.session() as sql:
        for phone in ("5491123456789", "+34600000001", "call me"):
            sql.all("INSERT INTO kommo_conversations (provider, phone) VALUES ('meta', %(phone)s)", phone=phone)
        sql.all(
            "INSERT INTO conversations (provider, channel_id, kommo_chat_id, address, recipient, phone) "
            "VALUES ('kommo', %(kommo)s, '14155238886', '14155238886', '14155238886', '5491123456789')",
            kommo=kommo,
        )
    migrate.apply(office.url)
    with office.session() as sql:
        rows = sql.all("SELECT provider, phone, recipient FROM conversations ORDER BY provider, phone")
        assert [tuple(row.values()) for row in rows] == [
            ("kommo", NUMBER, "14155238886"),  # a chat's id is no number, whatever it looks like
            ("meta", "+34600000001", "+34600000001"),
            ("meta", NUMBER, NUMBER),
            ("meta", "call me", "call me"),
        ]
        numbers = sql.all("SELECT phone_number FROM customers WHERE phone_number IS NOT NULL ORDER BY 1")
        assert [row["phone_number"] for row in numbers] == ["+34600000001", NUMBER]


def test_the_migration_joins_two_sessions_of_one_number_and_those_that_are_alone(office: Office, channel: UUID) -> None:
    before(office)
    with office.session() as sql:
        sql.all("INSERT INTO kommo_conversations (provider, phone) VALUES ('meta', '5491123456789')")
        rows = (("5491123456789", "IDLE", 2), ("34600000001", "IDLE", 3), ("+34600000001", "CHECKOUT", 1))
        for phone, state, days in rows:
            sql.all(
                "INSERT INTO whatsapp_sessions (phone_number, state, last_message_at) "
                "VALUES (%(phone)s, %(state)s, now() - make_interval(days => %(days)s))",
                phone=phone, state=state, days=days,
            )  # fmt: skip
    migrate.apply(office.url)
    with office.session() as sql:
        rows_now = sql.all(
            "SELECT s.phone_number, s.state, c.address, c.contact_id IS NOT NULL AS known FROM sessions s "
            "JOIN conversations c ON c.id = s.conversation_id ORDER BY 1"
        )
        assert [tuple(row.values()) for row in rows_now] == [
            ("+34600000001", "CHECKOUT", "+34600000001", True),
            (NUMBER, "IDLE", "+541123456789", True),
        ]
        # The contact of a conversation that was made is found by its number, as any other.
        assert sql.one("SELECT count(*) AS held FROM contact_addresses WHERE canonical = '+34600000001'") == {"held": 1}
