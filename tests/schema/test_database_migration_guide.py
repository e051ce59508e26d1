"""The document "Database Migration Guide" (contacts, groups, campaigns, webhooks), statement by statement.

Each test bears the name of the section it is from. Its tRPC calls stand as the SQL that they are, the tenant given as
there.
"""

from typing import Any
from uuid import UUID

import psycopg
import pytest

from schema import migrate
from tests.schema.office import Office, Session, missing

TIMES = ("created_at", "updated_at")
FIELDS = {
    "contacts": ("id", "tenant_id", "phone_number", "name", "is_active", *TIMES),
    "groups": ("id", "tenant_id", "name", "description", "is_active", *TIMES),
    "group_contacts": ("group_id", "contact_id", "created_at"),
    "message_templates": ("id", "tenant_id", "name", "content", "variables", "is_active", *TIMES),
    "campaigns": (
        "id", "tenant_id", "whatsapp_instance_id", "message_template_id", "name", "message", "status", "scheduled_at",
        "started_at", "completed_at", "total_recipients", "sent_count", "failed_count", *TIMES,
    ),
    "campaign_recipients": (
        "id", "campaign_id", "contact_id", "status", "sent_at", "delivered_at", "read_at", "failed_at",
        "error_message", "message_data", *TIMES,
    ),
    "messages_history": (
        "id", "tenant_id", "whatsapp_instance_id", "contact_id", "message_id", "chat_id", "direction", "type",
        "content", "metadata", "status", "sent_at", "delivered_at", "read_at", "created_at",
    ),
    "webhooks": ("id", "tenant_id", "name", "url", "events", "secret", "is_active", *TIMES),
    "webhook_logs": (
        "id", "webhook_id", "event", "payload", "response", "status_code", "success", "error_message",
        "attempt_count", "created_at", "completed_at",
    ),
}  # fmt: skip
SOFT = ("contacts", "groups", "message_templates", "campaigns", "webhooks")


@pytest.fixture
def channel(office: Office) -> UUID:
    """The tenant's WhatsApp instance."""
    return office.channel("meta")


def contact(sql: Session, tenant: UUID, phone: str = "+1234567890") -> UUID:
    row = sql.one(
        "INSERT INTO contacts (tenant_id, phone_number, name) VALUES (%(tenant)s, %(phone)s, 'John Doe') RETURNING *",
        tenant=tenant, phone=phone,
    )  # fmt: skip
    return UUID(str(row["id"]))


def group(sql: Session, tenant: UUID) -> UUID:
    row = sql.one(
        "INSERT INTO groups (tenant_id, name, description) "
        "VALUES (%(tenant)s, 'Marketing List', 'Q1 Marketing Campaign') RETURNING *",
        tenant=tenant,
    )
    return UUID(str(row["id"]))


def campaign(sql: Session, tenant: UUID, channel: UUID) -> dict[str, Any]:
    return sql.one(
        "INSERT INTO campaigns (tenant_id, whatsapp_instance_id, name, message) "
        "VALUES (%(tenant)s, %(channel)s, 'Q1 Promotion', 'Hello! Check out our new offers!') RETURNING *",
        tenant=tenant, channel=channel,
    )  # fmt: skip


# -- New Schemas Added -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIELDS)
def test_new_schemas_added_with_every_field(office: Office, name: str) -> None:
    with office.session() as sql:
        assert sql.all(f"SELECT {', '.join(FIELDS[name])} FROM {name}") == []


def test_7_messages_history_takes_inbound_and_outbound_messages(office: Office, channel: UUID) -> None:
    with office.session() as sql:
        john = contact(sql, office.tenant)
        inbound = sql.one(
            "INSERT INTO messages_history (tenant_id, whatsapp_instance_id, contact_id, message_id, chat_id, "
            "direction, type, content, metadata) VALUES (%(tenant)s, %(channel)s, %(contact)s, 'wamid.1', "
            "'1234567890@c.us', 'inbound', 'text', 'Hi', '{\"a\": 1}') RETURNING *",
            tenant=office.tenant, channel=channel, contact=john,
        )  # fmt: skip
        outbound = sql.one(
            "INSERT INTO messages_history (message_id, chat_id, direction, content, status, sent_at) "
            "VALUES ('wamid.2', '+1234567890', 'outbound', 'Hello!', 'sent', now()) RETURNING *"
        )
        assert (inbound["status"], inbound["chat_id"], inbound["metadata"]) == ("received", "+1234567890", {"a": 1})
        assert (outbound["whatsapp_instance_id"], outbound["contact_id"], outbound["type"]) == (channel, john, "text")
        assert sql.all("SELECT message_id FROM messages_history ORDER BY message_id") == [
            {"message_id": "wamid.1"}, {"message_id": "wamid.2"},
        ]  # fmt: skip
        assert sql.one("SELECT count(*) AS talks FROM conversations") == {"talks": 1}


def test_7_messages_history_finds_the_chat_of_a_contact(office: Office, channel: UUID) -> None:
    with office.session() as sql:
        john, jane = contact(sql, office.tenant), contact(sql, office.tenant, "+1234567891")
        insert = (
            "INSERT INTO messages_history (contact_id, chat_id, message_id, direction, content) "
            "VALUES (%(contact)s, %(chat)s, %(message)s, 'inbound', '') RETURNING contact_id, chat_id"
        )
        assert sql.one(insert, contact=john, chat=None, message="1") == {"contact_id": john, "chat_id": "+1234567890"}
        with sql.refused(psycopg.errors.UniqueViolation, "another contact"):
            sql.all(insert, contact=jane, chat="+1234567890", message="2")
        with sql.refused(psycopg.errors.NotNullViolation, "chat_id is missing"):
            sql.all(insert, contact=None, chat=None, message="3")
        with sql.refused(psycopg.errors.NotNullViolation, "chat_id is missing"):
            sql.all(insert, contact=missing(), chat=None, message="4")
        with sql.refused(psycopg.errors.ForeignKeyViolation, "no such channel"):
            sql.all(
                "INSERT INTO messages_history (whatsapp_instance_id, chat_id, direction) "
                "VALUES (%(id)s, '1', 'inbound')",
                id=missing(),
            )
        assert sql.one("SELECT channel_id FROM conversations") == {"channel_id": channel}


def test_7_messages_history_needs_an_instance_that_is_plain(office: Office) -> None:
    insert = "INSERT INTO messages_history (chat_id, direction) VALUES ('+1234567890', 'inbound')"
    for count in (0, 2):
        with office.session() as sql, sql.refused(psycopg.errors.NotNullViolation, f"{count} channels"):
            sql.all(insert)
        office.channel("meta")
        office.channel("twilio")


@pytest.mark.usefixtures("channel")
def test_7_messages_history_tracks_delivery_and_sends_nothing(office: Office) -> None:
    with office.session() as sql:
        insert = "INSERT INTO messages_history (message_id, chat_id, direction, status) VALUES ('1', '+1234567890', "
        sql.all(insert + "'outbound', 'sent')")
        row = sql.one(
            "UPDATE messages_history SET status = 'delivered', delivered_at = now() WHERE message_id = '1' RETURNING *"
        )
        assert (row["status"], row["delivered_at"] is not None, row["read_at"]) == ("delivered", True, None)
        assert sql.count("UPDATE messages_history SET status = 'read', read_at = now() WHERE message_id = '1'") == 1
        for status in ("sent", "delivered", "failed", "queued", "ready"):
            with sql.refused(psycopg.errors.CheckViolation, status):
                sql.all("UPDATE messages_history SET status = %(status)s", status=status)
        with sql.refused(psycopg.errors.CheckViolation, "queued"):
            sql.all(insert.replace("'1'", "'2'") + "'outbound', 'queued')")
        with sql.refused(psycopg.errors.FeatureNotSupported, "don't change"):
            sql.all("UPDATE messages_history SET chat_id = '+1'")
        assert sql.count("DELETE FROM messages_history WHERE message_id = '1'") == 1
        assert sql.all("SELECT * FROM messages") == []


def test_8_webhooks_and_9_webhook_logs(office: Office) -> None:
    with office.session() as sql:
        hook = sql.one(
            "INSERT INTO webhooks (tenant_id, name, url, events, secret) VALUES (%(tenant)s, 'CRM', "
            "'https://crm.example/hook', ARRAY['contact_created'], 'sealed') RETURNING *",
            tenant=office.tenant,
        )
        assert (hook["is_active"], hook["events"]) == (True, ["contact_created"])
        log = sql.one(
            "INSERT INTO webhook_logs (webhook_id, event, payload) VALUES (%(id)s, 'contact_created', '{}') "
            "RETURNING *",
            id=hook["id"],
        )
        assert (log["attempt_count"], log["success"], log["completed_at"]) == (0, None, None)
        assert sql.count(
            "UPDATE webhook_logs SET response = 'ok', status_code = 200, success = true, attempt_count = 1, "
            "completed_at = now()"
        ) == 1  # fmt: skip
        sql.all("DELETE FROM webhooks")
        assert sql.all("SELECT * FROM webhook_logs") == []


def test_4_message_templates(office: Office, channel: UUID) -> None:
    with office.session() as sql:
        template = sql.one(
            "INSERT INTO message_templates (tenant_id, name, content, variables) "
            "VALUES (%(tenant)s, 'welcome', 'Hello {{name}}', '[\"name\"]') RETURNING *",
            tenant=office.tenant,
        )
        assert (template["is_active"], template["variables"]) == (True, ["name"])
        made = sql.one(
            "INSERT INTO campaigns (whatsapp_instance_id, message_template_id, name) "
            "VALUES (%(channel)s, %(template)s, 'Welcome') RETURNING *",
            channel=channel, template=template["id"],
        )  # fmt: skip
        assert made["message"] is None
        with sql.refused(psycopg.errors.CheckViolation, "check_campaign_says_something"):
            sql.all("INSERT INTO campaigns (whatsapp_instance_id, name) VALUES (%(id)s, 'Mute')", id=channel)


# -- Running the Migration ---------------------------------------------------------------------------------------------


def test_verify_the_migration_up_down_and_up_again(office: Office) -> None:
    there = "SELECT count(*) AS n FROM pg_class WHERE relname = ANY (%(names)s)"
    assert office.operator(there, names=list(FIELDS)) == [{"n": 9}]
    assert migrate.apply(office.url) == []
    migrate.rollback(office.url, len(migrate.status(office.url)))
    assert office.operator(there, names=list(FIELDS)) == [{"n": 0}]
    migrate.apply(office.url)
    assert office.operator(there, names=list(FIELDS)) == [{"n": 9}]


# -- Example Usage -----------------------------------------------------------------------------------------------------


def test_create_a_contact(office: Office) -> None:
    with office.session() as sql:
        row = sql.one(
            "INSERT INTO contacts (tenant_id, phone_number, name) "
            "VALUES (%(tenant)s, '+1234567890', 'John Doe') RETURNING *",
            tenant=office.tenant,
        )
        assert (row["phone_number"], row["name"], row["is_active"]) == ("+1234567890", "John Doe", True)
        assert sql.one("SELECT kind, canonical, contact_id FROM contact_addresses") == {
            "kind": "phone", "canonical": "+1234567890", "contact_id": row["id"],
        }  # fmt: skip
        with sql.refused(psycopg.errors.UniqueViolation, "another contact has this phone number"):
            contact(sql, office.tenant, "+1 (234) 567-890")
        with sql.refused(psycopg.errors.CheckViolation, "no phone number"):
            contact(sql, office.tenant, "not a number")
    with office.session(other := office.new_tenant("Otra")) as sql:
        contact(sql, other)
        with sql.refused(psycopg.errors.InsufficientPrivilege, "row-level security"):
            contact(sql, office.tenant, "+1234567891")


def test_create_a_group_and_add_contacts_to_it(office: Office) -> None:
    with office.session() as sql:
        marketing, john = group(sql, office.tenant), contact(sql, office.tenant)
        add = "INSERT INTO group_contacts (group_id, contact_id) SELECT %(group)s, unnest(%(contacts)s::uuid[])"
        assert sql.count(add, group=marketing, contacts=[john]) == 1
        with sql.refused(psycopg.errors.UniqueViolation, "group_contacts_pkey"):
            sql.all(add, group=marketing, contacts=[john])
        with sql.refused(psycopg.errors.ForeignKeyViolation, "group_contacts_tenant_id_contact_id_fkey"):
            sql.all(add, group=marketing, contacts=[missing()])


def test_create_a_campaign_and_start_it(office: Office, channel: UUID) -> None:
    with office.session() as sql:
        marketing, john = group(sql, office.tenant), contact(sql, office.tenant)
        sql.all(
            "INSERT INTO group_contacts (group_id, contact_id) VALUES (%(group)s, %(contact)s)",
            group=marketing, contact=john,
        )  # fmt: skip
        made = campaign(sql, office.tenant, channel)
        assert (made["status"], made["total_recipients"], made["sent_count"], made["failed_count"]) == (
            "draft",
            0,
            0,
            0,
        )
        # recipientType: "groups", recipientIds: [group]
        assert sql.count(
            "INSERT INTO campaign_recipients (campaign_id, contact_id) "
            "SELECT %(campaign)s, contact_id FROM group_contacts WHERE group_id = ANY (%(groups)s)",
            campaign=made["id"], groups=[marketing],
        ) == 1  # fmt: skip
        started = sql.one(
            "UPDATE campaigns SET status = 'running', started_at = now(), total_recipients = 1 WHERE id = %(id)s "
            "RETURNING *",
            id=made["id"],
        )
        assert (started["status"], started["whatsapp_instance_id"]) == ("running", channel)
        recipient = sql.one("SELECT contact_id, status, message_data FROM campaign_recipients")
        assert recipient == {"contact_id": john, "status": "pending", "message_data": {}}
        with sql.refused(psycopg.errors.CheckViolation, "check_campaign_status"):
            sql.all("UPDATE campaigns SET status = 'exploded'")


# -- Notes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "messages_history"])
def test_notes_every_schema_follows_the_multi_tenant_pattern(office: Office, name: str) -> None:
    (row,) = office.operator(
        "SELECT relrowsecurity AND relforcerowsecurity AS guarded FROM pg_class WHERE oid = %(name)s::regclass",
        name=name,
    )
    assert row["guarded"]


@pytest.mark.parametrize("name", SOFT)
def test_notes_soft_deletes_are_implemented_using_deleted_at(office: Office, name: str) -> None:
    with office.session() as sql:
        assert sql.all(f"SELECT deleted_at FROM {name}") == []


def test_notes_foreign_keys_have_proper_cascade_delete_behavior(office: Office, channel: UUID) -> None:
    with office.session() as sql:
        marketing, john = group(sql, office.tenant), contact(sql, office.tenant)
        made = campaign(sql, office.tenant, channel)["id"]
        sql.all("INSERT INTO group_contacts (group_id, contact_id) VALUES (%(g)s, %(c)s)", g=marketing, c=john)
        sql.all("INSERT INTO campaign_recipients (campaign_id, contact_id) VALUES (%(m)s, %(c)s)", m=made, c=john)
        sql.all("INSERT INTO messages_history (chat_id, direction) VALUES ('+1234567890', 'inbound')")
        sql.all("DELETE FROM contacts WHERE id = %(id)s", id=john)
        for name in ("group_contacts", "campaign_recipients", "contact_addresses", "messages_history"):
            assert sql.all(f"SELECT * FROM {name}") == [], name
        assert len(sql.all("SELECT * FROM campaigns")) == 1
    office.worker("DELETE FROM tenants WHERE id = %(id)s", id=office.tenant)
    for name in ("groups", "campaigns", "channels"):
        assert office.worker(f"SELECT * FROM {name}") == [], name


def test_notes_contact_names_are_not_translated(office: Office) -> None:
    with office.session() as sql:
        row = sql.one("INSERT INTO contacts (name) VALUES ('Señora Peña ☎ 東京') RETURNING name")
    assert row == {"name": "Señora Peña ☎ 東京"}


def test_notes_no_enums_in_database(office: Office) -> None:
    assert office.operator("SELECT typname FROM pg_type WHERE typtype = 'e'") == []
    statuses = office.operator(
        "SELECT DISTINCT data_type FROM information_schema.columns "
        "WHERE table_schema = 'public' AND column_name = 'status'"
    )
    assert statuses == [{"data_type": "text"}]
