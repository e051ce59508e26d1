"""Which providers the schema admits: the three of the customers' documents, and those that a migration adds."""

from pathlib import Path

import psycopg
import pytest

from schema import migrate
from shared.domain.provider_names import names
from tests.schema.office import Office

VIBER = """
CREATE OR REPLACE FUNCTION providers() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ARRAY['kommo', 'twilio', 'meta', 'email', 'viber']
$$;
"""
BEFORE = "0032_templates"
STATISTICS = "SELECT provider, total FROM active_conversations_by_provider"


def test_the_schema_admits_each_provider_that_has_a_folder(office: Office) -> None:
    with office.session() as sql:
        assert sorted(sql.one("SELECT providers() AS names")["names"]) == list(names())


def test_a_new_provider_is_one_statement(office: Office, tmp_path: Path) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="check_channel_provider"):
        office.channel("viber")
    (tmp_path / "9999_viber.sql").write_text(VIBER)
    (tmp_path / "9999_viber.rollback.sql").write_text("SELECT 1;\n")
    assert migrate.apply(office.url, tmp_path) == ["9999_viber"]
    office.channel("viber")
    office.worker("INSERT INTO endpoints (provider, secrets) VALUES ('viber', 'sealed')")
    with office.session() as sql:
        assert [row["provider"] for row in sql.all(STATISTICS)] == ["kommo", "twilio", "meta"]
        talk = sql.one(
            "INSERT INTO kommo_conversations (provider, phone) VALUES ('viber', '+34600000001') RETURNING id"
        )
        sql.all(
            "INSERT INTO kommo_messages (conversation_id, provider, role, content) "
            "VALUES (%(id)s, 'viber', 'user', 'Hola')",
            id=talk["id"],
        )
        assert {"provider": "viber", "total": 1} in sql.all(STATISTICS)
        with sql.refused(psycopg.errors.CheckViolation, "check_valid_provider"):
            sql.all("INSERT INTO kommo_conversations (provider, phone) VALUES ('telegram', '+34600000001')")


def test_a_mail_channel_is_of_no_other_provider(office: Office) -> None:
    for provider, kind in (("twilio", "email"), ("email", "whatsapp")):
        with pytest.raises(psycopg.errors.CheckViolation, match="check_email_is_a_provider"):
            office.channel(provider, kind)


def test_mail_that_stood_under_twilio_is_counted_as_mail(office: Office) -> None:
    names = [step.name for step in migrate.status(office.url)]
    migrate.rollback(office.url, len(names) - names.index(BEFORE))
    stand_in, _ = (
        office.channel("twilio", "email", address="imported"),
        office.channel("email", "email", address="imported"),
    )
    office.channel("twilio")
    with office.session() as sql:
        talk = sql.one(
            "INSERT INTO conversations (provider, channel_id, phone, address) "
            "VALUES ('twilio', %(channel)s, NULL, 'ana@example.com') RETURNING id",
            channel=stand_in,
        )["id"]
        sql.all(
            "INSERT INTO kommo_messages (conversation_id, provider, role, content) "
            "VALUES (%(id)s, 'twilio', 'user', 'Hola')",
            id=talk,
        )
    migrate.apply(office.url)
    with office.session() as sql:
        assert [tuple(row.values()) for row in sql.all(STATISTICS)] == [
            ("kommo", 0), ("twilio", 0), ("meta", 0), ("email", 1),
        ]  # fmt: skip
        assert sql.all("SELECT provider FROM messages") == [{"provider": "email"}]
        assert sql.one("SELECT count(DISTINCT address) AS addresses FROM channels WHERE kind = 'email'") == {
            "addresses": 2
        }
