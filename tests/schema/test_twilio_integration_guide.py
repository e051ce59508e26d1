"""The document "Twilio WhatsApp Integration Guide", statement by statement.

Each test bears the name of the section it is from. Its TypeScript calls stand as the SQL that they are sent as.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.schema.office import Office, Session

PHONE = "+5493425123456"
FIND = "SELECT * FROM kommo_conversations WHERE provider = 'twilio' AND phone = %(phone)s"
CREATE = """
INSERT INTO kommo_conversations (provider, phone, contact_name, status, kommo_chat_id)
VALUES ('twilio', %(phone)s, %(name)s, 'active', NULL) RETURNING *
"""
SAY = """
INSERT INTO kommo_messages (conversation_id, provider, role, content, message_type)
VALUES (%(id)s, 'twilio', %(role)s, %(content)s, 'text') RETURNING *
"""


@pytest.fixture(autouse=True)
def channels(office: Office) -> dict[str, UUID]:
    """One of each provider."""
    return {provider: office.channel(provider) for provider in ("kommo", "twilio", "meta")}


def conversation(sql: Session, phone: str = PHONE) -> UUID:
    return UUID(str(sql.one(CREATE, phone=phone, name="Juan")["id"]))


# -- Key Concepts ------------------------------------------------------------------------------------------------------


def test_2_24_hour_messaging_window_opens_at_the_users_message_and_never_moves_back(office: Office) -> None:
    with office.session() as sql:
        talk = conversation(sql)
        sql.all(SAY, id=talk, role="user", content="Hola")
        # The record of an older message: an import, a late copy.
        sql.all(
            "INSERT INTO kommo_messages (conversation_id, provider, role, content, created_at) "
            "VALUES (%(id)s, 'twilio', 'user', 'antes', now() - interval '3 days')",
            id=talk,
        )
        assert sql.one("SELECT last_user_message_at = now() AS now FROM kommo_conversations")["now"]


def test_3_provider_specific_identifiers(office: Office) -> None:
    with office.session() as sql:
        kommo = sql.one("INSERT INTO kommo_conversations (kommo_chat_id) VALUES ('chat-1') RETURNING *")
        twilio = sql.one(
            "INSERT INTO kommo_conversations (provider, phone) VALUES ('twilio', '+34600000001') RETURNING *"
        )
        meta = sql.one("INSERT INTO kommo_conversations (provider, phone) VALUES ('meta', '+34600000001') RETURNING *")
    assert [(row["kommo_chat_id"], row["phone"]) for row in (kommo, twilio, meta)] == [
        ("chat-1", None), (None, "+34600000001"), (None, "+34600000001"),
    ]  # fmt: skip
    assert twilio["contact_id"] == meta["contact_id"]


def test_3_a_kommo_chat_is_one_person_and_one_conversation_with_or_without_a_number(office: Office) -> None:
    with office.session() as sql:
        numbered = sql.one(
            "INSERT INTO kommo_conversations (kommo_chat_id, phone) VALUES ('chat-1', %(phone)s) RETURNING *",
            phone=PHONE,
        )
        bare = sql.one("INSERT INTO kommo_conversations (kommo_chat_id) VALUES ('chat-2') RETURNING *")
        for talk, chat in ((numbered, "chat-1"), (bare, "chat-2")):
            queued = sql.one(
                "INSERT INTO messages_history (whatsapp_instance_id, chat_id, direction, content) "
                "VALUES (%(channel)s, %(chat)s, 'inbound', 'hola') RETURNING *",
                channel=talk["channel_id"], chat=chat,
            )  # fmt: skip
            assert (queued["chat_id"], queued["contact_id"]) == (chat, talk["contact_id"])
            assert sql.one("SELECT conversation_id FROM kommo_messages WHERE id = %(id)s", id=queued["id"]) == {
                "conversation_id": talk["id"]
            }
        people = sql.all(
            "SELECT contact_id, canonical FROM contact_addresses WHERE kind = 'kommo_chat' ORDER BY canonical"
        )
        assert people == [
            {"contact_id": numbered["contact_id"], "canonical": "chat-1"},
            {"contact_id": bare["contact_id"], "canonical": "chat-2"},
        ]


# -- Common Database Queries -------------------------------------------------------------------------------------------


def test_find_or_create_twilio_conversation(office: Office) -> None:
    with office.session() as sql:
        assert sql.all(FIND, phone=PHONE) == []
        made = sql.one(CREATE, phone=PHONE, name="Juan")
        assert sql.one(FIND, phone=PHONE) == made


def test_check_24_hour_window_eligibility(office: Office) -> None:
    ask = "SELECT last_user_message_at FROM kommo_conversations WHERE id = %(id)s"
    with office.session() as sql:
        talk = conversation(sql)
        assert sql.one(ask, id=talk) == {"last_user_message_at": None}
        sql.all(SAY, id=talk, role="user", content="Hola")
    with office.session() as sql:
        last_message_at = sql.one(ask, id=talk)["last_user_message_at"]
        assert abs((datetime.now(UTC) - last_message_at).total_seconds()) < 24 * 60 * 60


def test_get_conversations_by_provider(office: Office) -> None:
    with office.session() as sql:
        first, second, third = (conversation(sql, f"+3460000000{n}") for n in range(3))
        sql.all(
            "UPDATE kommo_conversations SET last_message_at = now() + interval '1 minute' WHERE id = %(id)s", id=second
        )
        sql.all("UPDATE kommo_conversations SET status = 'escalated' WHERE id = %(id)s", id=third)
        rows = sql.all(
            "SELECT * FROM kommo_conversations WHERE provider = 'twilio' AND status = 'active' "
            "ORDER BY last_message_at DESC"
        )
        assert [row["id"] for row in rows] == [second, first]


def test_add_message_with_automatic_timestamp_update(office: Office) -> None:
    with office.session() as sql:
        talk = conversation(sql)
        said = sql.one(SAY, id=talk, role="user", content="Hola")
        assert (said["conversation_id"], said["provider"], said["content"]) == (talk, "twilio", "Hola")
        assert sql.one("SELECT last_user_message_at FROM kommo_conversations") == {
            "last_user_message_at": said["created_at"]
        }


# -- Provider Statistics View ------------------------------------------------------------------------------------------


def test_get_overview_of_all_providers(office: Office) -> None:
    """The document's own figures."""
    with office.session() as sql:
        for n in range(6):
            sql.all("INSERT INTO kommo_conversations (kommo_chat_id) VALUES (%(chat)s)", chat=f"chat-{n}")
        talks = [conversation(sql, f"+346000000{n:02}") for n in range(15)]
        for talk in talks[:8]:
            sql.all(SAY, id=talk, role="user", content="Hola")
        for status, some in (("escalated", talks[:2]), ("closed", talks[14:])):
            sql.all(
                "UPDATE kommo_conversations SET status = %(status)s WHERE id = ANY (%(ids)s)", status=status, ids=some
            )
        rows = sql.all("SELECT * FROM active_conversations_by_provider;")
    assert [tuple(row.values()) for row in rows] == [
        ("kommo", 6, 6, 0, 0), ("twilio", 15, 12, 2, 8), ("meta", 0, 0, 0, 0),
    ]  # fmt: skip


# -- TypeScript Type Definitions ---------------------------------------------------------------------------------------


def test_updated_types_name_columns_that_are_there(office: Office) -> None:
    with office.session() as sql:
        talk = sql.one(CREATE, phone=PHONE, name="Juan")
        said = sql.one(SAY, id=talk["id"], role="user", content="Hola")
    assert talk.keys() >= {
        "id", "provider", "phone", "contact_name", "kommo_chat_id", "status", "last_message_at", "last_user_message_at",
        "created_at", "updated_at", "metadata",
    }  # fmt: skip
    assert said.keys() >= {
        "id", "conversation_id", "provider", "role", "content", "message_type", "metadata", "created_at",
    }  # fmt: skip


@pytest.mark.parametrize(("column", "known"), [("status", ["active", "escalated", "closed"])])
def test_updated_types_a_conversation_has_these_states_and_no_others(
    office: Office, column: str, known: list[str]
) -> None:
    with office.session() as sql:
        conversation(sql)
        for value in known:
            assert sql.count(f"UPDATE kommo_conversations SET {column} = %(value)s", value=value) == 1
        with sql.refused(psycopg.errors.CheckViolation, "check_conversation_status"):
            sql.all(f"UPDATE kommo_conversations SET {column} = 'lost'")


def test_updated_types_a_message_has_these_roles_and_no_others(office: Office) -> None:
    with office.session() as sql:
        talk = conversation(sql)
        for role in ("user", "assistant", "system"):
            assert sql.one(SAY, id=talk, role=role, content="")["role"] == role
        with sql.refused(psycopg.errors.CheckViolation, "check_role"):
            sql.all(SAY, id=talk, role="robot", content="")
        with sql.refused(psycopg.errors.NotNullViolation, "role"):
            sql.all(SAY, id=talk, role=None, content="")


# -- Best Practices ----------------------------------------------------------------------------------------------------


def test_4_monitor_provider_statistics(office: Office) -> None:
    with office.session() as sql:
        assert len(sql.all("SELECT * FROM active_conversations_by_provider")) == 3


# -- Example: Complete Twilio Message Flow -----------------------------------------------------------------------------


def handle_webhook(sql: Session, phone: str, body: str) -> dict[str, Any]:
    """The document's function, its calls of the database in their order."""
    found = sql.all(FIND, phone=phone)
    talk = (
        found[0]
        if found
        else sql.one(
            "INSERT INTO kommo_conversations (provider, phone, contact_name, status) "
            "VALUES ('twilio', %(phone)s, %(phone)s, 'active') RETURNING *",
            phone=phone,
        )
    )
    sql.all(SAY, id=talk["id"], role="user", content=body)
    sql.all(SAY, id=talk["id"], role="assistant", content=f"¿{body}?")
    assert sql.count(
        "UPDATE kommo_conversations SET last_message_at = %(at)s WHERE id = %(id)s", at=datetime.now(UTC), id=talk["id"]
    ) == 1  # fmt: skip
    return talk


def test_complete_twilio_message_flow(office: Office) -> None:
    for body in ("Hola", "Precio"):
        with office.session() as sql:
            talk = handle_webhook(sql, PHONE, body)
    with office.session() as sql:
        assert sql.one("SELECT count(*) AS n FROM kommo_conversations")["n"] == 1
        said = sql.all(
            "SELECT role, content, direction, status FROM kommo_messages WHERE conversation_id = %(id)s "
            "ORDER BY created_at, role DESC",
            id=talk["id"],
        )
    assert [tuple(row.values()) for row in said] == [
        ("user", "Hola", "inbound", "received"),
        ("assistant", "¿Hola?", "outbound", "sent"),
        ("user", "Precio", "inbound", "received"),
        ("assistant", "¿Precio?", "outbound", "sent"),
    ]


def test_twilio_message_flow_an_answer_sent_by_them_is_not_sent_by_palomar(office: Office) -> None:
    with office.session() as sql:
        talk = handle_webhook(sql, PHONE, "Hola")["id"]
        owed = "SELECT count(*) AS n FROM messages WHERE due_at IS NOT NULL OR status IN ('queued', 'held', 'ready')"
        assert sql.one(owed)["n"] == 0
        for status in ("queued", "held", "ready", "sending", "unknown", "expired", "canceled"):
            with sql.refused(psycopg.errors.CheckViolation, status):
                sql.all("UPDATE kommo_messages SET status = %(status)s WHERE role = 'assistant'", status=status)
            with sql.refused(psycopg.errors.CheckViolation, status):
                sql.all(
                    "INSERT INTO kommo_messages (conversation_id, provider, role, direction, content, status) "
                    "VALUES (%(id)s, 'twilio', 'assistant', 'outbound', '', %(status)s)",
                    id=talk, status=status,
                )  # fmt: skip


def test_complete_twilio_message_flow_receipts_move_a_message_forward_only(office: Office) -> None:
    with office.session() as sql:
        handle_webhook(sql, PHONE, "Hola")
        move = "UPDATE kommo_messages SET status = %(status)s WHERE role = 'assistant'"
        for status in ("failed", "delivered", "read", "read"):
            assert sql.count(move, status=status) == 1
        for status in ("sent", "failed", "delivered"):
            with sql.refused(psycopg.errors.CheckViolation, f"'{status}'"):
                sql.all(move, status=status)
        with sql.refused(psycopg.errors.CheckViolation, "check_inbound_is_received"):
            sql.all("UPDATE kommo_messages SET status = 'read' WHERE role = 'user'")


QUEUED = """
INSERT INTO messages (tenant_id, conversation_id, channel_id, provider, direction, role, status, out_seq, due_at)
SELECT tenant_id, id, channel_id, provider, 'outbound', 'assistant', 'queued', 100, now() FROM conversations
"""


def test_twilio_message_flow_what_is_about_to_be_sent_can_be_canceled_by_sql(office: Office) -> None:
    for status in ("canceled", "failed", "sent"):
        with office.session() as sql:
            conversation(sql)
        office.worker(QUEUED)
        with office.session() as sql:
            with sql.refused(psycopg.errors.CheckViolation, "'ready'"):
                sql.all("UPDATE kommo_messages SET status = 'ready'")
            sql.all("UPDATE kommo_messages SET status = %(status)s", status=status)
            assert sql.one("SELECT status, due_at FROM messages") == {"status": status, "due_at": None}
            sql.all("DELETE FROM kommo_conversations")


# -- Troubleshooting ---------------------------------------------------------------------------------------------------


def test_issue_provider_constraint_violation(office: Office) -> None:
    with office.session() as sql:
        with sql.refused(psycopg.errors.CheckViolation, 'violates check constraint "check_valid_provider"'):
            sql.all("INSERT INTO kommo_conversations (provider, phone) VALUES ('whatsapp', %(phone)s)", phone=PHONE)
        conversation(sql)
        with sql.refused(psycopg.errors.CheckViolation, 'violates check constraint "check_valid_provider"'):
            sql.all("UPDATE kommo_conversations SET provider = 'whatsapp'")


def test_issue_kommo_conversation_missing_chat_id(office: Office) -> None:
    with office.session() as sql:
        with sql.refused(psycopg.errors.CheckViolation, 'violates check constraint "check_kommo_requires_chat_id"'):
            sql.all("INSERT INTO kommo_conversations (phone) VALUES (%(phone)s)", phone=PHONE)
        conversation(sql)
        with sql.refused(psycopg.errors.CheckViolation, 'violates check constraint "check_kommo_requires_chat_id"'):
            sql.all("UPDATE kommo_conversations SET provider = 'kommo'")


def test_issue_duplicate_twilio_conversation(office: Office) -> None:
    with office.session() as sql:
        conversation(sql)
        with sql.refused(
            psycopg.errors.UniqueViolation,
            'duplicate key value violates unique constraint "idx_twilio_conversation_phone"',
        ):
            conversation(sql)
        # The document's solution.
        assert sql.count(
            "UPDATE kommo_conversations SET contact_name = 'Ana' WHERE provider = 'twilio' AND phone = %(phone)s",
            phone=PHONE,
        ) == 1  # fmt: skip


def test_issue_duplicate_twilio_conversation_another_number_by_update(office: Office) -> None:
    """What Palomar sends then goes to the new number."""
    with office.session() as sql:
        talk = conversation(sql)
        sql.all("UPDATE kommo_conversations SET phone = '+34600000001' WHERE id = %(id)s", id=talk)
        assert sql.one(
            "SELECT c.recipient, c.address, p.phone_number FROM conversations c JOIN contacts p ON p.id = c.contact_id"
        ) == {"recipient": "+34600000001", "address": "+34600000001", "phone_number": "+34600000001"}
