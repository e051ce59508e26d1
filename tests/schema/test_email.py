"""E-mail beside the three providers that the replaced systems know."""

import psycopg

from tests.schema.office import Office

COUNTED = "SELECT provider, total FROM active_conversations_by_provider"


def test_the_overview_has_three_rows_and_a_fourth_only_where_there_is_e_mail(office: Office) -> None:
    channel = office.channel("email", "email", address="hola@shop.example")
    with office.session() as sql:
        assert [row["provider"] for row in sql.all(COUNTED)] == ["kommo", "twilio", "meta"]
        sql.one(
            "INSERT INTO conversations (provider, channel_id, address, recipient) "
            "VALUES ('email', %(channel)s, 'ana@example.com', 'Ana@example.com') RETURNING id",
            channel=channel,
        )
        assert [tuple(row.values()) for row in sql.all(COUNTED)] == [
            ("kommo", 0), ("twilio", 0), ("meta", 0), ("email", 1),
        ]  # fmt: skip
    with office.session() as sql:
        sql.all("UPDATE conversations SET deleted_at = now() WHERE provider = 'email'")
        assert len(sql.all(COUNTED)) == 3


def test_an_e_mail_channel_takes_no_other_providers_conversation(office: Office) -> None:
    channel = office.channel("email", "email", address="hola@shop.example")
    with office.session() as sql, sql.refused(psycopg.errors.CheckViolation, "the channel is of provider 'email'"):
        sql.all(
            "INSERT INTO conversations (provider, channel_id, address, recipient) "
            "VALUES ('twilio', %(channel)s, '+34600000001', '+34600000001')",
            channel=channel,
        )
