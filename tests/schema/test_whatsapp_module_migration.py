"""The document "WhatsApp Module Migration", statement by statement.

Each test bears the name of the section it is from. Its models stand as the SQL that their client sends: `create` is an
INSERT … RETURNING *, the fields in snake_case.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from schema import migrate
from tests.schema.office import Office, Row, Session, missing

MASK = "••••••••"
SETTINGS = """
INSERT INTO whatsapp_settings (api_key, phone_number_id, business_id, access_token, webhook_token, webhook_url)
VALUES ('key', '106540352242922', 'business', 'access', 'webhook', 'https://shop.example/whatsapp') RETURNING *
"""
SESSION = "INSERT INTO whatsapp_sessions (phone_number) VALUES (%(phone)s) RETURNING *"
MESSAGE = """
INSERT INTO whatsapp_messages (session_id, message_id, direction, content)
VALUES (%(session)s, %(message)s, %(direction)s, %(content)s) RETURNING *
"""
VIEWS = """
SELECT table_name FROM information_schema.views
WHERE table_name IN ('whatsapp_settings', 'whatsapp_sessions', 'whatsapp_messages') ORDER BY 1
"""
PHONE = "5491123456789"


@pytest.fixture
def channel(office: Office) -> UUID:
    """The tenant's one WhatsApp channel."""
    return office.channel("meta")


@pytest.fixture
def sql(office: Office, channel: UUID) -> Iterator[Session]:
    """A transaction of a tenant with that channel."""
    with office.session() as session:
        yield session


def said(
    sql: Session, session: UUID, message: str = "wamid.1", direction: str = "INBOUND", content: str = "Hola"
) -> Row:
    return sql.one(MESSAGE, session=session, message=message, direction=direction, content=content)


# -- Tables Created ----------------------------------------------------------------------------------------------------


def test_verify_migration_all_three_are_there(office: Office) -> None:
    names = ["whatsapp_messages", "whatsapp_sessions", "whatsapp_settings"]
    assert [row["table_name"] for row in office.operator(VIEWS)] == names
    with office.session() as sql:
        assert [sql.all(f"SELECT * FROM {name}") for name in names] == [[], [], []]


# -- New Models: WhatsAppSettings --------------------------------------------------------------------------------------


def test_whatsapp_settings_are_created_and_their_secrets_read_back_masked(office: Office) -> None:
    with office.session() as sql:
        made = sql.one(SETTINGS)
        read = sql.one("SELECT * FROM whatsapp_settings")
    assert made == read
    assert {name: made[name] for name in ("api_key", "access_token", "webhook_token")} == {
        "api_key": MASK, "access_token": MASK, "webhook_token": MASK,
    }  # fmt: skip
    assert (made["phone_number_id"], made["business_id"], made["webhook_url"], made["is_active"]) == (
        "106540352242922", "business", "https://shop.example/whatsapp", True,
    )  # fmt: skip
    assert isinstance(made["id"], UUID)
    assert isinstance(made["created_at"], datetime)
    assert isinstance(made["last_updated_at"], datetime)


def test_whatsapp_settings_can_be_written_and_their_secrets_never_read(office: Office) -> None:
    with office.session() as sql:
        sql.one(SETTINGS)
        with sql.refused(psycopg.errors.InsufficientPrivilege, "unsealed_credentials"):
            sql.all("SELECT secrets FROM unsealed_credentials")
        for way in ("SELECT * FROM unsealed_credentials", "DELETE FROM unsealed_credentials RETURNING secrets"):
            with sql.refused(psycopg.errors.InsufficientPrivilege, "unsealed_credentials"):
                sql.all(way)
        assert "access" not in str(sql.all("SELECT * FROM channels"))


def test_whatsapp_settings_send_nothing_until_their_secrets_are_sealed(office: Office) -> None:
    with office.session() as sql:
        made = sql.one(SETTINGS)
        assert made["status_reason"] == "its credentials wait to be sealed"
        assert sql.one("SELECT provider, kind, address, status FROM channels") == {
            "provider": "meta", "kind": "whatsapp", "address": "106540352242922", "status": "stopped",
        }  # fmt: skip


@pytest.mark.parametrize("column", ["api_key", "access_token", "webhook_token", "phone_number_id", "business_id"])
def test_whatsapp_settings_need_what_the_model_does_not_make_optional(office: Office, column: str) -> None:
    values = {"api_key": "k", "phone_number_id": "1", "business_id": "b", "access_token": "a", "webhook_token": "w"}
    values.pop(column)
    places = ", ".join(f"%({name})s" for name in values)
    with office.session() as sql, sql.refused(psycopg.errors.NotNullViolation, column):
        sql.all(f"INSERT INTO whatsapp_settings ({', '.join(values)}) VALUES ({places})", **values)


def test_whatsapp_settings_take_no_mask_for_a_new_secret(office: Office) -> None:
    with office.session() as sql, sql.refused(psycopg.errors.CheckViolation, "secrets themselves"):
        sql.all(SETTINGS.replace("'access'", f"'{MASK}'"))


def test_whatsapp_settings_of_one_number_are_one_row_of_a_tenant(office: Office) -> None:
    with office.session() as sql:
        sql.one(SETTINGS)
        with sql.refused(psycopg.errors.UniqueViolation, "channels_address"):
            sql.all(SETTINGS)
    with office.session(office.new_tenant("Otra")) as sql:
        assert sql.all("SELECT * FROM whatsapp_settings") == []
        sql.one(SETTINGS)


def sealed(office: Office) -> None:
    """As the clock leaves it."""
    office.worker("DELETE FROM unsealed_credentials")
    office.worker("UPDATE channels SET credentials = 'sealed', status = 'active', status_reason = NULL")


def waiting(office: Office) -> list[object]:
    return [row["secrets"] for row in office.worker("SELECT secrets FROM unsealed_credentials ORDER BY seq")]


def test_whatsapp_settings_are_updated_without_touching_secrets_not_given(office: Office) -> None:
    with office.session() as sql:
        sql.one(SETTINGS)
    sealed(office)
    with office.session() as sql:
        # A client writes back the whole row as it has read it.
        row = sql.one(
            "UPDATE whatsapp_settings SET api_key = %(mask)s, access_token = %(mask)s, webhook_token = %(mask)s, "
            "webhook_url = NULL, business_id = 'other' RETURNING *",
            mask=MASK,
        )
        assert (row["webhook_url"], row["business_id"], row["status_reason"]) == (None, "other", None)
        assert sql.one("SELECT status, credentials FROM channels") == {"status": "active", "credentials": "sealed"}
    assert waiting(office) == []
    with office.session() as sql:
        row = sql.one("UPDATE whatsapp_settings SET access_token = 'newer' RETURNING *")
        assert (row["access_token"], row["is_active"]) == (MASK, True)
        assert sql.one("SELECT status, credentials FROM channels") == {"status": "stopped", "credentials": "sealed"}
        with sql.refused(psycopg.errors.NotNullViolation, "webhook_token"):
            sql.all("UPDATE whatsapp_settings SET webhook_token = NULL")
    assert waiting(office) == [{"access_token": "newer"}]


def test_whatsapp_settings_is_active_is_the_channels_switch(office: Office) -> None:
    with office.session() as sql:
        sql.one(SETTINGS)
    sealed(office)
    with office.session() as sql:
        row = sql.one("UPDATE whatsapp_settings SET is_active = false RETURNING *")
        assert (row["is_active"], row["status_reason"]) == (False, "switched off in whatsapp_settings")
        # New secrets alone don't switch it on again.
        assert sql.one("UPDATE whatsapp_settings SET access_token = 'newer' RETURNING is_active") == {
            "is_active": False
        }
    sealed(office)
    office.worker("UPDATE channels SET status = 'stopped', status_reason = 'the provider refuses it'")
    with office.session() as sql:
        assert sql.one("UPDATE whatsapp_settings SET webhook_url = NULL RETURNING is_active, status_reason") == {
            "is_active": False, "status_reason": "the provider refuses it",
        }  # fmt: skip
        assert sql.one("UPDATE whatsapp_settings SET is_active = true RETURNING is_active, status_reason") == {
            "is_active": True, "status_reason": None,
        }  # fmt: skip
        assert sql.one("SELECT status FROM channels") == {"status": "active"}


def test_whatsapp_settings_are_deleted_softly_and_may_be_made_again(office: Office) -> None:
    with office.session() as sql:
        first = sql.one(SETTINGS)
        assert sql.count("DELETE FROM whatsapp_settings") == 1
        assert sql.all("SELECT * FROM whatsapp_settings") == []
        assert sql.one("SELECT deleted_at IS NOT NULL AS deleted FROM channels") == {"deleted": True}
        assert sql.one(SETTINGS)["id"] != first["id"]
    assert len(waiting(office)) == 1


# -- New Models: WhatsAppSession ---------------------------------------------------------------------------------------


def test_whatsapp_session_begins_idle_at_the_tenants_one_channel(office: Office, channel: UUID, sql: Session) -> None:
    made = sql.one(SESSION, phone=PHONE)
    assert (made["state"], made["context_data"], made["customer_profile_id"]) == ("IDLE", None, None)
    assert (made["tenant_id"], made["channel_id"]) == (office.tenant, channel)
    assert made["last_message_at"] == made["created_at"] == made["updated_at"]


def test_whatsapp_session_needs_a_channel_that_is_plain(office: Office) -> None:
    with office.session() as sql, sql.refused(psycopg.errors.NotNullViolation, "0 channels of kind 'whatsapp'"):
        sql.all(SESSION, phone=PHONE)
    office.channel("twilio", "sms")
    chosen = office.channel("meta")
    with office.session() as sql:
        sql.one(SESSION, phone="+34600000001")
    office.channel("twilio")
    with office.session() as sql:
        with sql.refused(psycopg.errors.NotNullViolation, "2 channels of kind 'whatsapp'"):
            sql.all(SESSION, phone=PHONE)
        sql.all(
            "INSERT INTO whatsapp_sessions (phone_number, channel_id) VALUES (%(phone)s, %(channel)s)",
            phone=PHONE, channel=chosen,
        )  # fmt: skip


def test_enums_added_every_state_of_a_session_is_taken(sql: Session) -> None:
    session = sql.one(SESSION, phone=PHONE)["id"]
    for state in ("BROWSING_CATEGORIES", "IDLE"):
        row = sql.one(
            "UPDATE whatsapp_sessions SET state = %(state)s, context_data = '{\"category\": 7}', "
            "last_message_at = now() WHERE id = %(id)s RETURNING *",
            state=state, id=session,
        )  # fmt: skip
        assert (row["state"], row["context_data"]) == (state, {"category": 7})
    with sql.refused(psycopg.errors.CheckViolation, "check_session_state"):
        sql.all("UPDATE whatsapp_sessions SET state = 'browsing categories'")


def test_whatsapp_session_phone_number_is_unique(office: Office, sql: Session) -> None:
    sql.one(SESSION, phone=PHONE)
    with sql.refused(psycopg.errors.UniqueViolation, "sessions_phone"):
        sql.all(SESSION, phone=PHONE)
    other = office.new_tenant("Otra")
    office.channel("meta", tenant=other)
    with office.session(other) as theirs:
        theirs.one(SESSION, phone=PHONE)


def test_whatsapp_session_is_made_or_updated(channel: UUID, sql: Session) -> None:
    upsert = (
        "INSERT INTO whatsapp_sessions (channel_id, phone_number, state) VALUES (%(channel)s, %(phone)s, %(state)s) "
        "ON CONFLICT (tenant_id, channel_id, phone_number) DO UPDATE SET state = excluded.state RETURNING id, state"
    )
    made = sql.one(upsert, channel=channel, phone=PHONE, state="IDLE")
    assert sql.one(upsert, channel=channel, phone=PHONE, state="CHECKOUT") == {"id": made["id"], "state": "CHECKOUT"}


def test_relations_added_a_customer_profile_has_sessions(sql: Session) -> None:
    profile = sql.one("INSERT INTO customers (name, phone_number) VALUES ('Ana', '+5491123456789') RETURNING id")["id"]
    row = sql.one(
        "INSERT INTO whatsapp_sessions (phone_number, customer_profile_id) VALUES (%(phone)s, %(profile)s) RETURNING *",
        phone=PHONE, profile=profile,
    )  # fmt: skip
    assert row["customer_profile_id"] == profile
    with sql.refused(psycopg.errors.ForeignKeyViolation, "sessions_tenant_id_contact_id_fkey"):
        sql.all("UPDATE whatsapp_sessions SET customer_profile_id = %(id)s", id=missing())


# -- New Models: WhatsAppMessage ---------------------------------------------------------------------------------------


def test_whatsapp_message_is_created_with_the_models_defaults(sql: Session) -> None:
    session = sql.one(SESSION, phone=PHONE)["id"]
    made = said(sql, session)
    assert {name: made[name] for name in ("session_id", "message_id", "direction", "content", "message_type")} == {
        "session_id": session, "message_id": "wamid.1", "direction": "INBOUND", "content": "Hola",
        "message_type": "text",
    }  # fmt: skip
    assert isinstance(made["id"], UUID)
    assert isinstance(made["created_at"], datetime)
    assert sql.all("SELECT * FROM whatsapp_messages") == [made]


def test_whatsapp_message_is_part_of_the_sessions_one_conversation(channel: UUID, sql: Session) -> None:
    session = sql.one(SESSION, phone=PHONE)["id"]
    said(sql, session)
    said(sql, session, "wamid.2", "OUTBOUND", "¿Qué busca?")
    assert sql.one(
        "SELECT channel_id, provider, phone, address, last_user_message_at = now() AS now FROM conversations"
    ) == {
        "channel_id": channel, "provider": "meta", "phone": "+5491123456789", "address": "+541123456789", "now": True,
    }  # fmt: skip
    assert sql.all("SELECT role, direction, status, due_at FROM messages ORDER BY external_id") == [
        {"role": "user", "direction": "inbound", "status": "received", "due_at": None},
        {"role": "assistant", "direction": "outbound", "status": "sent", "due_at": None},
    ]


def test_whatsapp_message_joins_a_conversation_that_is_there(channel: UUID, sql: Session) -> None:
    """As the network writes the number, or as people do: one person."""
    talk = sql.one(
        "INSERT INTO conversations (provider, channel_id, phone) VALUES ('meta', %(channel)s, '+54 11 2345-6789') "
        "RETURNING id",
        channel=channel,
    )["id"]
    said(sql, sql.one(SESSION, phone=PHONE)["id"])
    assert sql.one("SELECT conversation_id FROM messages") == {"conversation_id": talk}
    with sql.refused(psycopg.errors.UniqueViolation, "sessions_conversation"):
        sql.all(SESSION, phone="+54 11 2345-6789")


def test_whatsapp_message_id_is_unique(office: Office, sql: Session) -> None:
    session = sql.one(SESSION, phone=PHONE)["id"]
    said(sql, session)
    with sql.refused(psycopg.errors.UniqueViolation, "messages_external"):
        said(sql, session)
    other = office.new_tenant("Otra")
    office.channel("meta", tenant=other)
    with office.session(other) as theirs:
        said(theirs, theirs.one(SESSION, phone=PHONE)["id"])


def test_whatsapp_message_has_one_of_two_directions_and_belongs_to_a_session(sql: Session) -> None:
    session = sql.one(SESSION, phone=PHONE)["id"]
    with sql.refused(psycopg.errors.CheckViolation, "check_direction"):
        said(sql, session, direction="SIDEWAYS")
    with sql.refused(psycopg.errors.ForeignKeyViolation, "session_id names no session"):
        said(sql, missing())
    with sql.refused(psycopg.errors.NotNullViolation, "message_id"):
        sql.all(
            "INSERT INTO whatsapp_messages (session_id, direction, content) VALUES (%(id)s, 'INBOUND', '')", id=session
        )


def test_whatsapp_message_is_updated_and_stays_where_it_is(sql: Session) -> None:
    session = sql.one(SESSION, phone=PHONE)["id"]
    other = sql.one(SESSION, phone="+34600000001")["id"]
    said(sql, session)
    row = sql.one(
        "UPDATE whatsapp_messages SET content = 'Buenas', metadata = '{\"edited\": true}' "
        "WHERE message_id = 'wamid.1' RETURNING content, metadata"
    )
    assert row == {"content": "Buenas", "metadata": {"edited": True}}
    for change in (f"session_id = '{other}'", "direction = 'OUTBOUND'", "id = gen_random_uuid()"):
        with sql.refused(psycopg.errors.FeatureNotSupported, "don't change"):
            sql.all(f"UPDATE whatsapp_messages SET {change}")


def test_whatsapp_message_is_really_deleted(sql: Session) -> None:
    said(sql, sql.one(SESSION, phone=PHONE)["id"])
    assert sql.count("DELETE FROM whatsapp_messages WHERE message_id = 'wamid.1'") == 1
    assert sql.all("SELECT * FROM messages") == []


def test_whatsapp_message_of_the_past_keeps_its_time(sql: Session) -> None:
    at = datetime(2024, 5, 1, tzinfo=UTC)
    row = sql.one(
        "INSERT INTO whatsapp_messages (session_id, message_id, direction, content, created_at) "
        "VALUES (%(id)s, 'wamid.0', 'INBOUND', 'Hola', %(at)s) RETURNING created_at",
        id=sql.one(SESSION, phone=PHONE)["id"], at=at,
    )  # fmt: skip
    assert row["created_at"] == at
    assert sql.one("SELECT last_user_message_at FROM conversations") == {"last_user_message_at": at}


def test_whatsapp_message_on_delete_of_its_session_cascades(sql: Session) -> None:
    session, other = (sql.one(SESSION, phone=phone)["id"] for phone in (PHONE, "+34600000001"))
    said(sql, session)
    said(sql, other, "wamid.2")
    assert sql.count("DELETE FROM whatsapp_sessions WHERE id = %(id)s", id=session) == 1
    assert [row["session_id"] for row in sql.all("SELECT session_id FROM whatsapp_messages")] == [other]
    assert sql.one("SELECT count(*) AS messages FROM messages") == {"messages": 1}
    assert sql.one("SELECT count(*) AS sessions FROM sessions") == {"sessions": 1}


# -- Rollback ----------------------------------------------------------------------------------------------------------


def test_rollback_and_run_migration_again(office: Office) -> None:
    migrate.rollback(office.url, len(migrate.status(office.url)))
    assert office.operator(VIEWS) == []
    migrate.apply(office.url)
    assert len(office.operator(VIEWS)) == 3
    assert migrate.apply(office.url) == []


# -- No Breaking Changes -----------------------------------------------------------------------------------------------


def test_no_enum_types_stand_in_the_way_of_a_new_state(office: Office) -> None:
    assert office.operator("SELECT typname FROM pg_type WHERE typtype = 'e'") == []
