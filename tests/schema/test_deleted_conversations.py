"""A conversation that was deleted softly comes back when its customer writes again: by SQL as by a webhook."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from tests.schema.office import Office, Session

PHONE = "+34600000001"
CONVERSE = "INSERT INTO kommo_conversations (provider, phone) VALUES ('twilio', %(phone)s) RETURNING *"
SAY = "INSERT INTO kommo_messages (conversation_id, provider, role, content) VALUES (%(id)s, 'twilio', 'user', 'Hola')"


@pytest.fixture(autouse=True)
def channel(office: Office) -> UUID:
    return office.channel("twilio")


def deleted(office: Office) -> UUID:
    """A conversation with a message in and one out, and a session, that was deleted afterwards."""
    with office.session() as sql:
        talk = sql.one(CONVERSE, phone=PHONE)
        sql.all(SAY, id=talk["id"])
        sql.all(SAY.replace("'user'", "'assistant'"), id=talk["id"])
        sql.all("INSERT INTO whatsapp_sessions (phone_number, state) VALUES (%(phone)s, 'CHECKOUT')", phone=PHONE)
    with office.session() as sql:
        sql.all("UPDATE conversations SET deleted_at = now(), metadata = '{\"lead\": 7}'")
        assert sql.all("SELECT * FROM kommo_conversations") == []
    return UUID(str(talk["id"]))


def test_a_message_of_the_customers_brings_it_back(office: Office) -> None:
    talk = deleted(office)
    with office.session() as sql:
        sql.all(SAY, id=talk)
        assert sql.one("SELECT id, unread_count FROM kommo_conversations") == {"id": talk, "unread_count": 2}


def test_an_older_message_and_one_of_ours_do_not(office: Office) -> None:
    talk = deleted(office)
    with office.session() as sql:
        sql.all(SAY.replace("content)", "content, created_at)").replace("'Hola')", "'Hola', '2024-05-01')"), id=talk)
        sql.all(SAY.replace("'user'", "'assistant'"), id=talk)
        assert sql.all("SELECT * FROM kommo_conversations") == []


def found_or_made(sql: Session) -> UUID:
    """As the guide's webhook handler does it."""
    found = sql.all("SELECT * FROM kommo_conversations WHERE provider = 'twilio' AND phone = %(phone)s", phone=PHONE)
    return UUID(str((found or sql.all(CONVERSE, phone=PHONE))[0]["id"]))


def test_who_finds_none_and_makes_one_gets_the_deleted_ones_history(office: Office) -> None:
    deleted(office)
    with office.session() as sql:
        talk = found_or_made(sql)
        sql.all(SAY, id=talk)
    with office.session() as sql:
        assert found_or_made(sql) == talk
        (row,) = sql.all(
            "SELECT id, address, phone, unread_count, metadata, next_out_seq, deleted_at FROM conversations"
        )
        assert row == {
            "id": talk, "address": PHONE, "phone": PHONE, "unread_count": 2, "metadata": {"lead": 7},
            "next_out_seq": 2, "deleted_at": None,
        }  # fmt: skip
        assert sql.one("SELECT count(*) AS said FROM kommo_messages WHERE conversation_id = %(id)s", id=talk) == {
            "said": 3
        }
        assert sql.one("SELECT conversation_id, state FROM sessions") == {"conversation_id": talk, "state": "CHECKOUT"}
        assert sql.one("SELECT can_send_proactive FROM check_whatsapp_24_hour_window(%(id)s)", id=talk) == {
            "can_send_proactive": True
        }
        # What is said next has its place behind what was said before.
        sql.all(SAY.replace("'user'", "'assistant'"), id=talk)


def test_what_a_person_has_to_decide_is_not_forgotten(office: Office) -> None:
    """An agent who has the conversation keeps it, and a reply that a restore set aside stays listed."""
    talk = deleted(office)
    office.worker(
        "UPDATE conversations SET status = 'escalated', reply_restored_at = '2026-01-01T00:00Z' WHERE id = %(id)s",
        id=talk,
    )
    with office.session() as sql:
        found_or_made(sql)
        assert sql.one("SELECT status, reply_restored_at FROM conversations") == {
            "status": "escalated", "reply_restored_at": datetime(2026, 1, 1, tzinfo=UTC),
        }  # fmt: skip


def test_another_tenants_deleted_conversation_stays_where_it_is(office: Office) -> None:
    deleted(office)
    other = office.new_tenant("Otra")
    office.channel("twilio", tenant=other)
    with office.session(other) as sql:
        talk = found_or_made(sql)
        assert sql.one("SELECT id FROM conversations") == {"id": talk}
        assert sql.all("SELECT * FROM messages") == []
