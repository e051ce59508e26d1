"""The document "Database Setup for WhatsApp Integration", statement by statement.

Each test bears the name of the section it is from.
"""

from uuid import UUID

import psycopg
import pytest

from schema import migrate
from tests.schema.office import Office, missing

TABLES = """
SELECT table_name FROM information_schema.tables
WHERE table_schema = 'public'
AND table_name IN ('conversations', 'messages');
"""


@pytest.fixture
def channel(office: Office) -> UUID:
    return office.channel("twilio")


CONVERSE = "INSERT INTO conversations (provider, phone) VALUES ('twilio', %(phone)s) RETURNING *"
SAY = """
INSERT INTO messages (conversation_id, provider, role, content, message_type, external_id)
VALUES (%(id)s, 'twilio', 'user', 'Hola', %(kind)s, %(sid)s) RETURNING *
"""

# -- Tables Created ----------------------------------------------------------------------------------------------------


def test_tables_created_conversations_is_between_a_customer_and_a_distributor(office: Office, channel: UUID) -> None:
    with office.session() as sql:
        row = sql.one(CONVERSE, phone="+34600000001")
        assert (row["ai_context_summary"], row["unread_count"]) == (None, 0)
        assert sql.one("SELECT id, distributor_id, phone_number FROM customers") == {
            "id": row["contact_id"], "distributor_id": row["tenant_id"], "phone_number": "+34600000001",
        }  # fmt: skip
        assert sql.one("SELECT id, name FROM distributors") == {"id": row["tenant_id"], "name": "Tienda"}
        sql.all("UPDATE conversations SET ai_context_summary = 'asks for prices', unread_count = 0")


def test_tables_created_conversations_of_whatsapp_sms_and_email(office: Office) -> None:
    for provider, kind in (("twilio", "whatsapp"), ("twilio", "sms"), ("email", "email")):
        channel = office.channel(provider, kind)
        with office.session() as sql:
            sql.all(
                "INSERT INTO conversations (provider, channel_id, phone) "
                "VALUES (%(provider)s, %(channel)s, '+34600000001')",
                provider=provider, channel=channel,
            )  # fmt: skip
    with office.session() as sql:
        kinds = sql.all("SELECT ch.kind FROM conversations c JOIN channels ch ON ch.id = c.channel_id ORDER BY 1")
    assert [row["kind"] for row in kinds] == ["email", "sms", "whatsapp"]


@pytest.mark.usefixtures("channel")
def test_tables_created_messages_of_each_type_with_their_twilio_id_and_ai_fields(office: Office) -> None:
    with office.session() as sql:
        talk = sql.one(CONVERSE, phone="+34600000001")["id"]
        for kind in ("text", "media", "audio", "file"):
            row = sql.one(SAY, id=talk, kind=kind, sid=f"SM{kind}")
            assert (row["message_type"], row["external_id"], row["ai_processing_status"]) == (kind, f"SM{kind}", None)
        with sql.refused(psycopg.errors.UniqueViolation, "messages_external"):
            sql.all(SAY, id=talk, kind="text", sid="SMtext")
        assert sql.count(
            "UPDATE messages SET ai_processing_status = 'completed', ai_processed_at = now(), "
            """ai_metadata = '{"intent": "price"}' WHERE external_id = 'SMtext'"""
        ) == 1  # fmt: skip
        with sql.refused(psycopg.errors.CheckViolation, "check_ai_processing_status"):
            sql.all("UPDATE messages SET ai_processing_status = 'dreaming'")


def test_tables_created_customers_come_and_go_softly(office: Office) -> None:
    with office.session() as sql:
        insert = "INSERT INTO customers (name, phone_number) VALUES ('Ana', %(phone)s) RETURNING *"
        customer = sql.one(insert, phone="+34600000001")
        assert (customer["distributor_id"], customer["is_active"]) == (office.tenant, True)
        with sql.refused(psycopg.errors.UniqueViolation, "another contact has this phone number"):
            sql.all(insert, phone="+34 600 000 001")
        assert sql.count("UPDATE customers SET name = 'Ana M.' WHERE id = %(id)s", id=customer["id"]) == 1
        assert sql.count("DELETE FROM customers WHERE id = %(id)s", id=customer["id"]) == 1
        assert sql.all("SELECT * FROM customers") == []
        assert sql.one("SELECT name, deleted_at = now() AS deleted FROM contacts") == {
            "name": "Ana M.", "deleted": True,
        }  # fmt: skip


@pytest.mark.usefixtures("channel")
def test_tables_created_a_deleted_customer_who_comes_back_has_still_opted_out(office: Office) -> None:
    with office.session() as sql:
        talk = sql.one(CONVERSE, phone="+34600000001")
        sql.all(
            "INSERT INTO consents (contact_id, channel_kind, state, source) "
            "VALUES (%(id)s, 'whatsapp', 'opted_out', 'message')",
            id=talk["contact_id"],
        )
        sql.all("DELETE FROM customers")
    with office.session() as sql:
        back = sql.one("INSERT INTO customers (name, phone_number) VALUES ('Ana', '+34600000001') RETURNING id")["id"]
        assert back != talk["contact_id"]
        assert sql.one("SELECT contact_id FROM conversations") == {"contact_id": back}
        assert sql.one("SELECT state FROM consents WHERE contact_id = %(id)s", id=back) == {"state": "opted_out"}


def test_tables_created_distributors_are_made_by_a_session_of_their_own(office: Office) -> None:
    new = missing()
    with office.session(new) as sql:
        assert sql.one("INSERT INTO distributors (name) VALUES ('Norte') RETURNING id, name") == {
            "id": new, "name": "Norte",
        }  # fmt: skip
        assert sql.count("UPDATE distributors SET name = 'Norte SA'") == 1
        with sql.refused(psycopg.errors.InsufficientPrivilege, "row-level security"):
            sql.all("INSERT INTO distributors (id, name) VALUES (%(id)s, 'Otra')", id=missing())
        assert sql.count("DELETE FROM distributors") == 1
        assert sql.all("SELECT * FROM distributors") == []
        assert sql.one("SELECT name, deleted_at IS NOT NULL AS deleted FROM tenants") == {
            "name": "Norte SA", "deleted": True,
        }  # fmt: skip


def test_tables_created_customers_and_distributors_are_made_or_updated(office: Office) -> None:
    with office.session() as sql:
        insert = "INSERT INTO customers (id, name) VALUES (%(id)s, %(name)s) ON CONFLICT (distributor_id, id) "
        for name in ("Ana", "Ana M."):
            sql.all(insert + "DO UPDATE SET name = excluded.name", id=office.tenant, name=name)
        assert sql.all("SELECT name FROM customers") == [{"name": "Ana M."}]
        sql.all("INSERT INTO distributors (name) VALUES ('Sur') ON CONFLICT (id) DO UPDATE SET name = excluded.name")
        assert sql.all("SELECT name FROM distributors") == [{"name": "Sur"}]


# -- Indexes Created ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("conversations", "contact_id"),  # customer
        ("conversations", "tenant_id"),  # distributor
        ("conversations", "channel_id"),
        ("conversations", "last_message_at"),
        ("messages", "created_at"),
        ("messages", "ai_processing_status"),
        ("messages", "external_id"),
    ],
)
def test_indexes_created(office: Office, table: str, column: str) -> None:
    rows = office.operator(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %(table)s AND indexdef ~ %(column)s",
        table=table, column=rf"\(([^)]*, )?{column}\M",
    )  # fmt: skip
    assert rows, f"{table}.{column} has no index"


# -- Row Level Security ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("channel")
def test_row_level_security_distributors_reach_their_own_rows_only(office: Office) -> None:
    with office.session() as sql:
        talk = sql.one(CONVERSE, phone="+34600000001")["id"]
        sql.all(SAY, id=talk, kind="text", sid="SM1")
    with office.session(office.new_tenant("Otra")) as sql:
        for name in ("conversations", "messages", "customers"):
            assert sql.all(f"SELECT * FROM {name}") == []
            assert sql.count(f"DELETE FROM {name}") == 0
        with sql.refused(psycopg.errors.ForeignKeyViolation, "conversation"):
            sql.all(SAY, id=talk, kind="text", sid="SM2")
    with office.session() as sql:
        assert len(sql.all("SELECT * FROM messages")) == 1


# -- Verification ------------------------------------------------------------------------------------------------------


def test_verification_check_tables_exist(office: Office) -> None:
    assert sorted(row["table_name"] for row in office.operator(TABLES)) == ["conversations", "messages"]


def test_verification_check_rls_is_enabled(office: Office) -> None:
    rows = office.operator(
        """
        SELECT schemaname, tablename, rowsecurity
        FROM pg_tables
        WHERE tablename IN ('conversations', 'messages');
        """
    )
    assert sorted(tuple(row.values()) for row in rows) == [
        ("public", "conversations", True), ("public", "messages", True),
    ]  # fmt: skip


def test_verification_check_indexes(office: Office) -> None:
    rows = office.operator(
        """
        SELECT indexname, tablename FROM pg_indexes
        WHERE tablename IN ('conversations', 'messages');
        """
    )
    assert {"conversations_contact", "conversations_address", "conversations_latest", "messages_created",
            "messages_ai_processing", "messages_external"} <= {row["indexname"] for row in rows}  # fmt: skip


# -- Troubleshooting ---------------------------------------------------------------------------------------------------


def test_common_issues_2_table_already_exists(office: Office) -> None:
    assert migrate.apply(office.url) == []
    assert len(office.operator(TABLES)) == 2


def test_common_issues_3_foreign_key_violations(office: Office, channel: UUID) -> None:
    with office.session() as sql, sql.refused(psycopg.errors.ForeignKeyViolation, "conversations_tenant_id_contact_id"):
        sql.all(
            "INSERT INTO conversations (provider, channel_id, contact_id, address, recipient) "
            "VALUES ('twilio', %(channel)s, %(contact)s, '+34600000001', '+34600000001')",
            channel=channel, contact=missing(),
        )  # fmt: skip


def test_manual_cleanup_leaves_neither_table_and_the_setup_makes_them_again(office: Office) -> None:
    migrate.rollback(office.url, len(migrate.status(office.url)))
    assert office.operator(TABLES) == []
    migrate.apply(office.url)
    assert len(office.operator(TABLES)) == 2
