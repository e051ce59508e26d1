"""queue_template_message: what a tenant's own code calls where the 24-hour window is closed."""

from uuid import UUID

import psycopg
import pytest

from tests.schema.office import Office, Session, missing

QUEUE = "SELECT queue_template_message(%(talk)s, %(template)s, %(variables)s::jsonb) AS id"
ROW = "SELECT status, direction, role, message_type, content, template, out_seq, due_at <= now() AS due FROM messages"


def conversation(sql: Session, provider: str = "twilio", phone: str = "+34600000001") -> UUID:
    talk = sql.one(
        "INSERT INTO kommo_conversations (provider, phone) VALUES (%(provider)s, %(phone)s) RETURNING id",
        provider=provider, phone=phone,
    )  # fmt: skip
    return UUID(str(talk["id"]))


def template(sql: Session, channel: UUID | None, **columns: object) -> UUID:
    row = {"channel_id": channel, "name": "welcome", "content": "Hola {{1}}, {{2}}", **columns}
    names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    made = sql.one(f"INSERT INTO message_templates ({names}) VALUES ({places}) RETURNING id", **row)
    return UUID(str(made["id"]))


def test_a_template_is_queued_as_what_palomar_is_to_send(office: Office) -> None:
    channel = office.channel("twilio")
    with office.session() as sql:
        talk = conversation(sql)
        template(sql, channel, external_id="HX0123")
        queued = sql.one(QUEUE, talk=talk, template="welcome", variables='{"1": "Ana", "2": 7}')["id"]
        row = sql.one(f"{ROW} WHERE id = %(id)s", id=queued)
        assert row == {
            "status": "queued", "direction": "outbound", "role": "assistant", "message_type": "template",
            "content": "Hola Ana, 7", "out_seq": 1, "due": True,
            "template": {"name": "HX0123", "variables": {"1": "Ana", "2": "7"}, "language": None},
        }  # fmt: skip
        # What is said next lines up behind it.
        sql.one(QUEUE, talk=talk, template="HX9999", variables="{}")
        assert sql.one("SELECT max(out_seq) AS last FROM messages") == {"last": 2}


def test_metas_templates_are_named_and_have_a_language(office: Office) -> None:
    channel = office.channel("meta")
    with office.session() as sql:
        talk = conversation(sql, "meta")
        for language in ("es", "en_US"):
            template(sql, channel, external_id=f"id {language}", language=language)
        with sql.refused(psycopg.errors.InvalidParameterValue, "2 templates 'welcome'"):
            sql.all(QUEUE, talk=talk, template="welcome", variables="{}")
        in_spanish = "SELECT queue_template_message(%(talk)s, 'welcome', language => 'es') AS id"
        queued = sql.one(in_spanish, talk=talk)["id"]
        row = sql.one("SELECT template FROM messages WHERE id = %(id)s", id=queued)
        assert row["template"] == {"name": "welcome", "variables": {}, "language": "es"}
        with sql.refused(psycopg.errors.InvalidParameterValue, "language: Meta needs"):
            sql.all(QUEUE, talk=talk, template="another", variables="{}")


def test_the_same_dedupe_key_queues_once(office: Office) -> None:
    office.channel("twilio")
    with office.session() as sql:
        talk = conversation(sql)
        again = "SELECT queue_template_message(%(talk)s, 'HX1', dedupe_key => %(key)s) AS id"
        first = sql.one(again, talk=talk, key="order 7")
        assert sql.one(again, talk=talk, key="order 7") == first
        assert sql.one(again, talk=talk, key="order 8") != first
        assert sql.one("SELECT count(*) AS messages FROM messages") == {"messages": 2}


@pytest.mark.parametrize(
    ("name", "variables", "says"),
    [
        (" ", "{}", "template: a name"),
        ("x" * 513, "{}", "template: a name"),
        ("HX1", "[1]", "variables: an object"),
        ("HX1", '{"1": null}', "variables.1:"),
        ("HX1", '{"1": {"a": "b"}}', "variables.1:"),
        ("HX1", '{"1": "%s"}' % ("x" * 1025), "variables.1:"),
        ("welcome", "{}", "a text of the tenant's own"),
        ("paused", "{}", "it is paused"),
        ("switched off", "{}", "it is not active"),
    ],
)
def test_what_no_provider_would_take_is_refused_by_its_field(
    office: Office, name: str, variables: str, says: str
) -> None:
    channel = office.channel("twilio")
    with office.session() as sql:
        talk = conversation(sql)
        template(sql, None)
        template(sql, channel, name="paused", status="paused")
        template(sql, channel, name="switched off", is_active=False)
        with sql.refused(psycopg.errors.InvalidParameterValue, says):
            sql.all(QUEUE, talk=talk, template=name, variables=variables)
        assert sql.all("SELECT * FROM messages") == []


def test_it_is_for_a_tenants_own_conversations_on_channels_with_templates(office: Office) -> None:
    office.channel("kommo")
    with office.session() as sql:
        talk = sql.one("INSERT INTO kommo_conversations (kommo_chat_id) VALUES ('chat-1') RETURNING id")["id"]
        with sql.refused(psycopg.errors.FeatureNotSupported, "kommo has no templates"):
            sql.all(QUEUE, talk=talk, template="HX1", variables="{}")
        with sql.refused(psycopg.errors.ForeignKeyViolation, "no conversation of this tenant"):
            sql.all(QUEUE, talk=missing(), template="HX1", variables="{}")
    other = office.new_tenant("Otra")
    office.channel("twilio", tenant=other)
    with office.session(other) as theirs:
        talk = conversation(theirs)
    with office.session() as sql, sql.refused(psycopg.errors.ForeignKeyViolation, "no conversation of this tenant"):
        sql.all(QUEUE, talk=talk, template="HX1", variables="{}")
    with pytest.raises(psycopg.errors.NotNullViolation, match="this session has no tenant"):
        office.worker(QUEUE, talk=talk, template="HX1", variables="{}")
