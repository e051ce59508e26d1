"""The rules that the workers follow by themselves hold for writes by SQL too."""

import psycopg
import pytest
from psycopg.errors import CheckViolation, ForeignKeyViolation, NotNullViolation

from tests.schema.office import Office

CONVERSATION = "INSERT INTO kommo_conversations (provider, phone) VALUES ('twilio', %(phone)s) RETURNING *"


def test_a_message_is_on_its_conversations_channel(office: Office) -> None:
    office.channel("twilio")
    with office.session() as sql:
        mine = sql.one(CONVERSATION, phone="+5493425123456")
    other = office.channel("meta")
    with office.session() as sql:
        said = "INSERT INTO messages (conversation_id, channel_id, role) VALUES (%(id)s, %(channel)s, 'user')"
        with sql.refused(ForeignKeyViolation, "on that channel"):
            sql.all(said, id=mine["id"], channel=other)
        assert sql.count(said, id=mine["id"], channel=mine["channel_id"]) == 1
        with sql.refused(ForeignKeyViolation, "on that channel"):
            sql.all("UPDATE messages SET channel_id = %(channel)s", channel=other)


def test_another_tenants_channel_is_as_unknown_as_none(office: Office) -> None:
    office.channel("twilio")
    with office.session() as sql:
        mine = sql.one(CONVERSATION, phone="+5493425123456")
        with sql.refused(ForeignKeyViolation, "on that channel"):
            sql.all(
                "INSERT INTO messages (conversation_id, channel_id, role) VALUES (%(id)s, gen_random_uuid(), 'user')",
                id=mine["id"],
            )


def test_a_conversation_has_its_channels_provider(office: Office) -> None:
    channel = office.channel("twilio")
    with office.session() as sql:
        with sql.refused(CheckViolation, "the channel is of provider 'twilio'"):
            sql.all(
                "INSERT INTO kommo_conversations (provider, phone, channel_id) VALUES ('meta', '+541', %(channel)s)",
                channel=channel,
            )
        sql.one(CONVERSATION, phone="+5493425123456")
        with sql.refused(CheckViolation, "the channel is of provider 'twilio'"):
            sql.all("UPDATE kommo_conversations SET provider = 'meta'")
        with sql.refused(CheckViolation, "check_valid_provider"):
            sql.all("UPDATE kommo_conversations SET provider = 'telegram'")


@pytest.mark.parametrize(("role", "direction"), [("user", "outbound"), ("assistant", "inbound")])
def test_only_what_a_customer_wrote_came_in_and_opens_the_window(office: Office, role: str, direction: str) -> None:
    office.channel("twilio")
    with office.session() as sql:
        mine = sql.one(CONVERSATION, phone="+5493425123456")
        with sql.refused(CheckViolation, "check_"):
            sql.all(
                "INSERT INTO kommo_messages (conversation_id, provider, role, direction, content) "
                "VALUES (%(id)s, 'twilio', %(role)s, %(direction)s, 'x')",
                id=mine["id"], role=role, direction=direction,
            )  # fmt: skip
        assert sql.one("SELECT last_user_message_at FROM kommo_conversations")["last_user_message_at"] is None


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO contacts (name) VALUES ('Ana')",
        "INSERT INTO customers (name) VALUES ('Ana')",
        "INSERT INTO groups (name) VALUES ('amigos')",
        "INSERT INTO webhooks (url) VALUES ('https://tienda.example/hook')",
        "INSERT INTO kommo_conversations (provider, phone) VALUES ('twilio', '+541')",
    ],
)
def test_the_error_of_a_session_without_a_tenant_names_what_is_missing(office: Office, statement: str) -> None:
    with psycopg.connect(office.url) as connection:
        connection.execute("SET ROLE palomar_api")
        with pytest.raises(NotNullViolation, match="this session has no tenant") as caught:
            connection.execute(statement.encode())
        assert "set_config" in (caught.value.diag.message_hint or "")


def test_who_listens_for_changes_learns_nobodys_id(office: Office) -> None:
    with psycopg.connect(office.url, autocommit=True) as connection:
        connection.execute("LISTEN palomar_channels")
        office.channel("twilio")
        (notification,) = list(connection.notifies(timeout=10, stop_after=1))
        assert (notification.channel, notification.payload) == ("palomar_channels", "")
