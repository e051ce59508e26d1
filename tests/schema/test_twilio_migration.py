"""The document "Database Migration: Twilio WhatsApp Support", statement by statement.

Each test bears the name of the section it is from. Their TypeScript calls stand as the SQL that they are sent as.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from schema import migrate
from tests.schema.office import Office, Session

PHONE = "+5493425123456"


@pytest.fixture
def channels(office: Office) -> dict[str, UUID]:
    """One of each provider."""
    return {provider: office.channel(provider) for provider in ("kommo", "twilio", "meta")}


def twilio_conversation(sql: Session, phone: str = PHONE) -> UUID:
    row = sql.one(
        "INSERT INTO kommo_conversations (provider, phone, contact_name, status) "
        "VALUES ('twilio', %(phone)s, 'Juan Pérez', 'active') RETURNING *",
        phone=phone,
    )
    return UUID(str(row["id"]))


# -- What Changed ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("channels")
def test_what_changed_provider_is_kommo_where_none_is_named(office: Office) -> None:
    with office.session() as sql:
        conversation = sql.one("INSERT INTO kommo_conversations (kommo_chat_id) VALUES ('chat-1') RETURNING *")
        message = sql.one(
            "INSERT INTO kommo_messages (conversation_id, role, content) VALUES (%(id)s, 'user', 'Hola') RETURNING *",
            id=conversation["id"],
        )
    assert (conversation["provider"], conversation["last_user_message_at"]) == ("kommo", None)
    assert message["provider"] == "kommo"


@pytest.mark.usefixtures("channels")
def test_what_changed_only_the_three_providers_are_valid(office: Office) -> None:
    with office.session() as sql, sql.refused(psycopg.errors.CheckViolation, "check_valid_provider"):
        sql.all("INSERT INTO kommo_conversations (provider, phone) VALUES ('telegram', '+5493425123456')")


@pytest.mark.usefixtures("channels")
def test_what_changed_a_kommo_conversation_requires_its_chat_id_others_do_not(office: Office) -> None:
    with office.session() as sql:
        with sql.refused(psycopg.errors.CheckViolation, "check_kommo_requires_chat_id"):
            sql.all("INSERT INTO kommo_conversations (provider, phone) VALUES ('kommo', %(phone)s)", phone=PHONE)
        for provider in ("twilio", "meta"):
            row = sql.one(
                "INSERT INTO kommo_conversations (provider, phone) VALUES (%(provider)s, %(phone)s) RETURNING *",
                provider=provider, phone=PHONE,
            )  # fmt: skip
            assert row["kommo_chat_id"] is None


@pytest.mark.usefixtures("channels")
def test_what_changed_a_phone_has_one_conversation_at_a_provider(office: Office) -> None:
    with office.session() as sql:
        twilio_conversation(sql)
        with sql.refused(psycopg.errors.UniqueViolation, "idx_twilio_conversation_phone"):
            twilio_conversation(sql)
        sql.all("INSERT INTO kommo_conversations (provider, phone) VALUES ('meta', %(phone)s)", phone=PHONE)


def test_what_changed_two_tenants_and_two_channels_do_not_collide(office: Office) -> None:
    first, second = office.channel("twilio"), office.channel("twilio", "sms")
    other = office.new_tenant("Otra")
    office.channel("twilio", tenant=other)
    with office.session() as sql:
        for channel in (first, second):
            sql.one(
                "INSERT INTO kommo_conversations (provider, phone, channel_id) "
                "VALUES ('twilio', %(phone)s, %(channel)s) RETURNING id",
                phone=PHONE, channel=channel,
            )  # fmt: skip
    with office.session(other) as sql:
        twilio_conversation(sql)


# -- Automatic Features ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("channels")
def test_trigger_auto_update_last_user_message(office: Office) -> None:
    with office.session() as sql:
        conversation = twilio_conversation(sql)
        at = "SELECT last_user_message_at AS at, unread_count FROM kommo_conversations WHERE id = %(id)s"
        for role in ("assistant", "system"):
            sql.all(
                "INSERT INTO kommo_messages (conversation_id, provider, role, content) "
                "VALUES (%(id)s, 'twilio', %(role)s, 'Hola')",
                id=conversation, role=role,
            )  # fmt: skip
            assert sql.one(at, id=conversation) == {"at": None, "unread_count": 0}
        sql.all(
            "INSERT INTO kommo_messages (conversation_id, provider, role, content) "
            "VALUES (%(id)s, 'twilio', 'user', 'Hola')",
            id=conversation,
        )
        assert sql.one(at, id=conversation) == {"at": sql.one("SELECT now() AS at")["at"], "unread_count": 1}


def test_view_provider_statistics(office: Office) -> None:
    with office.session() as sql:
        assert sql.all("SELECT * FROM active_conversations_by_provider") == [
            {"provider": provider, "total": 0, "active": 0, "escalated": 0, "within_24h": 0}
            for provider in ("kommo", "twilio", "meta")
        ]


# -- TypeScript Updates ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("channels")
def test_updated_types_every_kind_of_message_is_taken(office: Office) -> None:
    with office.session() as sql:
        conversation = twilio_conversation(sql)
        for kind in ("text", "image", "file", "location"):
            row = sql.one(
                "INSERT INTO kommo_messages (conversation_id, provider, role, content, message_type) "
                "VALUES (%(id)s, 'twilio', 'user', '', %(kind)s) RETURNING *",
                id=conversation, kind=kind,
            )  # fmt: skip
            assert row["message_type"] == kind


# -- Usage Examples ----------------------------------------------------------------------------------------------------


def test_1_create_twilio_conversation(office: Office, channels: dict[str, UUID]) -> None:
    with office.session() as sql:
        row = sql.one(
            "INSERT INTO kommo_conversations (provider, phone, contact_name, status) "
            "VALUES ('twilio', '+5493425123456', 'Juan Pérez', 'active') RETURNING *"
        )
        assert (row["provider"], row["phone"], row["contact_name"], row["status"], row["kommo_chat_id"]) == (
            "twilio", "+5493425123456", "Juan Pérez", "active", None,
        )  # fmt: skip
        assert (row["tenant_id"], row["channel_id"]) == (office.tenant, channels["twilio"])
        # One person is one contact, however the number is written.
        assert sql.one("SELECT name, phone_number FROM contacts WHERE id = %(id)s", id=row["contact_id"]) == {
            "name": "Juan Pérez", "phone_number": "+5493425123456",
        }  # fmt: skip


def test_1_create_twilio_conversation_where_the_channel_is_not_plain(office: Office) -> None:
    insert = "INSERT INTO kommo_conversations (provider, phone) VALUES ('twilio', %(phone)s)"
    with office.session() as sql, sql.refused(psycopg.errors.NotNullViolation, "0 channels of provider 'twilio'"):
        sql.all(insert, phone=PHONE)
    office.channel("twilio")
    office.channel("twilio")
    with office.session() as sql, sql.refused(psycopg.errors.NotNullViolation, "2 channels of provider 'twilio'"):
        sql.all(insert, phone=PHONE)


@pytest.mark.usefixtures("channels")
def test_1_create_twilio_conversation_unless_it_is_there(office: Office) -> None:
    upsert = (
        "INSERT INTO kommo_conversations (provider, phone, contact_name) VALUES ('twilio', %(phone)s, %(name)s) "
        "ON CONFLICT (tenant_id, provider, channel_id, phone) WHERE phone IS NOT NULL "
        "DO UPDATE SET contact_name = excluded.contact_name RETURNING id, contact_name"
    )
    with office.session() as sql:
        first = sql.one(upsert, phone=PHONE, name="Juan")
        assert sql.one(upsert, phone=PHONE, name="Juan Pérez") == {"id": first["id"], "contact_name": "Juan Pérez"}
        assert sql.count(
            "INSERT INTO kommo_conversations (provider, phone) VALUES ('twilio', %(phone)s) ON CONFLICT DO NOTHING",
            phone=PHONE,
        ) == 0  # fmt: skip


@pytest.mark.usefixtures("channels")
def test_2_save_user_message(office: Office) -> None:
    with office.session() as sql:
        conversation = twilio_conversation(sql)
        sql.all(
            "INSERT INTO kommo_messages (conversation_id, provider, role, content, message_type) "
            "VALUES (%(id)s, 'twilio', 'user', 'Hola, necesito información', 'text')",
            id=conversation,
        )
        assert sql.one("SELECT direction, status, content FROM messages") == {
            "direction": "inbound", "status": "received", "content": "Hola, necesito información",
        }  # fmt: skip
        assert sql.one("SELECT last_user_message_at = now() AS opened FROM kommo_conversations")["opened"]


@pytest.mark.usefixtures("channels")
def test_2_save_user_message_in_a_conversation_that_is_not_there(office: Office) -> None:
    with office.session() as sql, sql.refused(psycopg.errors.ForeignKeyViolation, "conversation"):
        sql.all(
            "INSERT INTO kommo_messages (conversation_id, provider, role, content) "
            "VALUES (gen_random_uuid(), 'twilio', 'user', 'Hola')"
        )


@pytest.mark.usefixtures("channels")
def test_4_get_provider_statistics(office: Office) -> None:
    with office.session() as sql:
        conversations = [twilio_conversation(sql, f"+549342512345{n}") for n in range(4)]
        sql.all(
            "INSERT INTO kommo_messages (conversation_id, provider, role, content) "
            "SELECT unnest(%(ids)s::uuid[]), 'twilio', 'user', 'Hola'",
            ids=conversations[:3],
        )
        sql.all(
            "UPDATE kommo_conversations SET last_user_message_at = now() - interval '24 hours' WHERE id = %(id)s",
            id=conversations[0],
        )
        sql.all("UPDATE kommo_conversations SET status = 'escalated' WHERE id = %(id)s", id=conversations[1])
        sql.all("UPDATE conversations SET deleted_at = now() WHERE id = %(id)s", id=conversations[2])
        sql.all("INSERT INTO kommo_conversations (kommo_chat_id) VALUES ('chat-1')")
        assert sql.all("SELECT * FROM active_conversations_by_provider") == [
            {"provider": "kommo", "total": 1, "active": 1, "escalated": 0, "within_24h": 0},
            {"provider": "twilio", "total": 3, "active": 2, "escalated": 1, "within_24h": 1},
            {"provider": "meta", "total": 0, "active": 0, "escalated": 0, "within_24h": 0},
        ]
    other = office.new_tenant("Otra")
    with office.session(other) as sql:
        assert {row["total"] for row in sql.all("SELECT * FROM active_conversations_by_provider")} == {0}


@pytest.mark.usefixtures("channels")
def test_5_query_by_provider(office: Office) -> None:
    with office.session() as sql:
        older, newer, closed = (twilio_conversation(sql, f"+549342512345{n}") for n in range(3))
        sql.all("INSERT INTO kommo_conversations (kommo_chat_id) VALUES ('chat-1')")
        sql.all("UPDATE kommo_conversations SET status = 'closed' WHERE id = %(id)s", id=closed)
        for conversation, hours in ((older, 2), (newer, 1)):
            sql.all(
                "UPDATE kommo_conversations SET last_message_at = %(at)s WHERE id = %(id)s",
                id=conversation, at=datetime.now(UTC) - timedelta(hours=hours),
            )  # fmt: skip
        rows = sql.all(
            "SELECT * FROM kommo_conversations WHERE provider = 'twilio' AND status = 'active' "
            "ORDER BY last_message_at DESC"
        )
    assert [row["id"] for row in rows] == [newer, older]


# -- Migration Verification --------------------------------------------------------------------------------------------


def test_manual_verification_queries_check_new_columns_exist(office: Office) -> None:
    rows = office.operator(
        """
        SELECT column_name, data_type, is_nullable, column_default
        FROM information_schema.columns
        WHERE table_name IN ('kommo_conversations', 'kommo_messages')
        AND column_name IN ('provider', 'last_user_message_at');
        """
    )
    found = sorted((row["column_name"], row["data_type"], row["column_default"] or "") for row in rows)
    assert found == [
        ("last_user_message_at", "timestamp with time zone", ""),
        ("provider", "text", "'kommo'::text"),
        ("provider", "text", "'kommo'::text"),
    ]


@pytest.mark.usefixtures("channels")
def test_manual_verification_queries_a_provider_is_never_null(office: Office) -> None:
    """What the document's query reads in is_nullable. Of a view that column always says YES."""
    with office.session() as sql:
        with sql.refused(psycopg.errors.NotNullViolation, "provider"):
            sql.all("INSERT INTO kommo_conversations (provider, phone) VALUES (NULL, %(phone)s)", phone=PHONE)
        conversation = twilio_conversation(sql)
        with sql.refused(psycopg.errors.NotNullViolation, "provider"):
            sql.all(
                "INSERT INTO kommo_messages (conversation_id, provider, role, content) "
                "VALUES (%(id)s, NULL, 'user', '')",
                id=conversation,
            )


def test_manual_verification_queries_verify_constraints(office: Office) -> None:
    rows = office.operator(
        """
        SELECT conname, pg_get_constraintdef(oid)
        FROM pg_constraint
        WHERE conname LIKE '%%provider%%' OR conname LIKE '%%chat_id%%';
        """
    )
    found = {row["conname"]: row["pg_get_constraintdef"] for row in rows}
    assert all(provider in found["check_valid_provider"] for provider in ("kommo", "twilio", "meta"))
    assert "kommo_chat_id IS NOT NULL" in found["check_kommo_requires_chat_id"]


def test_manual_verification_queries_check_trigger_is_active(office: Office) -> None:
    (row,) = office.operator(
        """
        SELECT trigger_name, event_object_table, action_statement
        FROM information_schema.triggers
        WHERE trigger_name = 'trigger_update_last_user_message';
        """
    )
    assert row == {
        "trigger_name": "trigger_update_last_user_message",
        "event_object_table": "messages",  # kommo_messages is a view of it
        "action_statement": "EXECUTE FUNCTION update_last_user_message_timestamp()",
    }


def test_manual_verification_queries_test_view(office: Office) -> None:
    rows = office.operator("SELECT * FROM active_conversations_by_provider;")
    assert [row["provider"] for row in rows] == ["kommo", "twilio", "meta"]


def test_best_practices_of_indexes_are_there_and_valid(office: Office) -> None:
    rows = office.operator(
        "SELECT c.relname AS name, i.indisunique AS is_unique FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indisvalid AND c.relname = ANY (ARRAY['idx_twilio_conversation_phone', 'idx_messages_provider', "
        "'idx_conversations_provider_status', 'idx_conversations_provider_phone']) ORDER BY 1"
    )
    assert [(row["name"], row["is_unique"]) for row in rows] == [
        ("idx_conversations_provider_phone", False),
        ("idx_conversations_provider_status", False),
        ("idx_messages_provider", False),
        ("idx_twilio_conversation_phone", True),
    ]


# -- Rollback Instructions ---------------------------------------------------------------------------------------------

OBJECTS = """
SELECT tgname::text AS name FROM pg_trigger WHERE tgname = 'trigger_update_last_user_message'
UNION ALL SELECT proname::text FROM pg_proc WHERE proname = 'update_last_user_message_timestamp'
UNION ALL SELECT relname::text FROM pg_class WHERE relname IN (
    'active_conversations_by_provider', 'kommo_conversations', 'kommo_messages', 'idx_twilio_conversation_phone',
    'idx_conversations_provider_status', 'idx_conversations_provider_phone', 'idx_messages_provider')
UNION ALL SELECT conname::text FROM pg_constraint
    WHERE conname IN ('check_valid_provider', 'check_kommo_requires_chat_id')
"""


def test_rollback_instructions_leave_none_of_the_objects(office: Office) -> None:
    assert len(office.operator(OBJECTS)) == 11
    migrate.rollback(office.url, len(migrate.status(office.url)))
    assert office.operator(OBJECTS) == []


# -- Common Issues -----------------------------------------------------------------------------------------------------


def test_can_i_run_this_migration_multiple_times(office: Office) -> None:
    assert migrate.apply(office.url) == []
    assert len(office.operator(OBJECTS)) == 11


@pytest.mark.usefixtures("channels")
def test_will_existing_kommo_conversations_break(office: Office) -> None:
    """Statements that know of no provider go on as before."""
    with office.session() as sql:
        conversation = sql.one(
            "INSERT INTO kommo_conversations (kommo_chat_id, contact_name) VALUES ('chat-1', 'Ana') RETURNING id"
        )["id"]
        sql.all(
            "INSERT INTO kommo_messages (conversation_id, role, content) VALUES (%(id)s, 'user', 'Hola')",
            id=conversation,
        )
        sql.all("UPDATE kommo_conversations SET status = 'closed' WHERE kommo_chat_id = 'chat-1'")
        assert sql.one("SELECT status, provider FROM kommo_conversations") == {"status": "closed", "provider": "kommo"}
        assert sql.count("DELETE FROM kommo_conversations WHERE kommo_chat_id = 'chat-1'") == 1
        assert sql.all("SELECT * FROM kommo_messages") == []


def test_what_if_i_need_to_add_another_provider(office: Office) -> None:
    channel = office.channel("twilio")
    office.operator(
        "ALTER TABLE conversations DROP CONSTRAINT check_valid_provider, ADD CONSTRAINT check_valid_provider "
        "CHECK (provider IN ('kommo', 'twilio', 'meta', 'telegram'))"
    )
    with office.session() as sql:
        row = sql.one(
            "INSERT INTO kommo_conversations (provider, phone, channel_id) VALUES ('telegram', %(phone)s, %(channel)s) "
            "RETURNING provider",
            phone=PHONE, channel=channel,
        )  # fmt: skip
    assert row["provider"] == "telegram"
