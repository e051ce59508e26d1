"""By SQL a message is a record: nothing that a tenant writes leaves, but what functions queue."""

from uuid import UUID, uuid4

import pytest
from psycopg.errors import CheckViolation, ForeignKeyViolation, InsufficientPrivilege, InvalidParameterValue

from tests.schema.office import Office, Row, Session

CONVERSATION = "INSERT INTO kommo_conversations (provider, phone) VALUES ('twilio', %(phone)s) RETURNING *"
EVERYTHING = """
INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, message_type, content,
    status, lane, out_seq, due_at, attempts, claim_id, claimed_at, admitted_at)
SELECT %(id)s, tenant_id, id, channel_id, provider, 'outbound', 'assistant', 'text', 'compra ya', %(status)s, 'normal',
    next_out_seq, now(), 3, gen_random_uuid(), now(), now() FROM conversations
RETURNING *
"""


def conversation(office: Office, sql: Session) -> Row:
    return sql.one(CONVERSATION, phone="+5493425123456")


@pytest.mark.parametrize("status", ["queued", "held", "ready", "sending", "unknown", "expired", "canceled"])
def test_a_row_with_every_column_named_does_not_leave(office: Office, status: str) -> None:
    office.channel("twilio")
    with office.session() as sql:
        conversation(office, sql)
        with sql.refused(CheckViolation, f"status '{status}': a message recorded by SQL"):
            sql.all(EVERYTHING, id=uuid4(), status=status)


def test_what_a_function_queues_is_due_within_minutes(office: Office) -> None:
    """A session that sets the variable of these functions by hand delays nothing for longer."""
    office.channel("twilio")
    with office.session() as sql:
        conversation(office, sql)
        sql.all("SELECT set_config('palomar.queued_by', 'function', true)")
        in_a_year = EVERYTHING.replace("next_out_seq, now()", "next_out_seq, now() + interval '1 year'")
        sql.one(in_a_year, id=uuid4(), status="queued")
        due = sql.one("SELECT due_at BETWEEN now() AND now() + interval '5 minutes' AS soon FROM messages")
        assert due == {"soon": True}


def test_a_record_owes_nothing_and_is_nobodys_to_send(office: Office) -> None:
    office.channel("twilio")
    with office.session() as sql:
        conversation(office, sql)
        row = sql.one(EVERYTHING.replace("next_out_seq", "2 ^ 60"), id=uuid4(), status="sent")
        assert row["out_seq"] == 1
        machinery = ("due_at", "attempts", "claim_id", "claimed_at", "admitted_at")
        assert [row[name] for name in machinery] == [None, 0, None, None, None]
        with sql.refused(CheckViolation, "due_at: a message that is 'sent' is a record"):
            sql.all("UPDATE messages SET due_at = now()")


def test_a_record_that_has_kept_a_due_time_can_be_changed_otherwise(office: Office) -> None:
    """As one may have from before records owed nothing."""
    office.channel("twilio")
    with office.session() as sql:
        conversation(office, sql)
    office.worker(EVERYTHING, id=(message := uuid4()), status="sent")
    office.worker("UPDATE messages SET due_at = now() WHERE id = %(id)s", id=message)
    with office.session() as sql:
        assert sql.count("UPDATE messages SET metadata = '{}'") == 1
        assert sql.count("UPDATE messages SET due_at = NULL") == 1


@pytest.mark.parametrize("status", ["sending", "unknown"])
@pytest.mark.parametrize("change", ["due_at = now()", "error_code = NULL", "claimed_at = '2000-01-01'", "attempts = 0"])
def test_what_may_have_left_is_nobodys_to_make_due(office: Office, status: str, change: str) -> None:
    office.channel("twilio")
    with office.session() as sql:
        conversation(office, sql)
    office.worker(EVERYTHING, id=(message := uuid4()), status=status)
    office.worker("UPDATE messages SET error_code = 'restored', due_at = NULL WHERE id = %(id)s", id=message)
    with office.session() as sql, sql.refused(CheckViolation, "waits for its outcome"):
        sql.all(f"UPDATE messages SET {change}")
    with office.session() as sql:
        assert sql.count("UPDATE messages SET metadata = '{}'") == 1


def test_an_answer_that_waits_for_a_person_is_not_taken_away(office: Office) -> None:
    office.channel("twilio")
    with office.session() as sql:
        conversation(office, sql)
    office.worker("UPDATE conversations SET reply_restored_at = now()")
    with office.session() as sql, sql.refused(CheckViolation, "waits for a person"):
        sql.all("UPDATE conversations SET reply_restored_at = NULL")


def test_nothing_by_sql_has_palomar_answer(office: Office) -> None:
    channel = office.channel("twilio")
    with office.session() as sql:
        row = sql.one(
            "INSERT INTO conversations (tenant_id, channel_id, provider, address, recipient, phone, reply_due_at, "
            "reply_wanted_since, reply_lease_until, user_message_count) "
            "VALUES (%(tenant)s, %(channel)s, 'twilio', '+34600000001', '+34600000001', '+34600000001', now(), now(), "
            "now(), 7) RETURNING *",
            tenant=office.tenant, channel=channel,
        )  # fmt: skip
        assert [row[name] for name in ("reply_due_at", "reply_wanted_since", "reply_lease_until")] == [None] * 3
        for column in ("reply_due_at", "reply_wanted_since"):
            with sql.refused(CheckViolation, "a reply is owed to a message that came in"):
                sql.all(f"UPDATE conversations SET {column} = now()")
        assert sql.count("UPDATE conversations SET reply_due_at = NULL, reply_wanted_since = NULL") == 1


def test_a_receipt_is_the_providers_to_give(office: Office) -> None:
    """A parked one that says the window was closed would have a template sent instead."""
    channel = office.channel("twilio")
    with office.session() as sql, sql.refused(InsufficientPrivilege, "message_statuses"):
        sql.all(
            "INSERT INTO message_statuses (tenant_id, channel_id, external_id, status, error_code) "
            "VALUES (%(tenant)s, %(channel)s, 'SM1', 'failed', '63016')",
            tenant=office.tenant, channel=channel,
        )  # fmt: skip


def test_queue_message_queues_a_text_once(office: Office) -> None:
    office.channel("twilio")
    queue = "SELECT queue_message(%(conversation)s, %(content)s, %(key)s) AS id"
    with office.session() as sql:
        of = conversation(office, sql)["id"]
        first, second = (sql.one(queue, conversation=of, content="hola", key=key)["id"] for key in ("a", "b"))
        assert sql.one(queue, conversation=of, content="otra vez", key="a")["id"] == first
        rows = sql.all("SELECT id, status, content, out_seq, due_at <= now() AS due FROM messages ORDER BY out_seq")
        assert [(row["id"], row["status"], row["content"], row["due"]) for row in rows] == [
            (first, "queued", "hola", True),
            (second, "queued", "hola", True),
        ]
        assert [row["out_seq"] for row in rows] == [1, 2]
        assert sql.one("SELECT next_out_seq FROM conversations")["next_out_seq"] == 3
        with sql.refused(CheckViolation, "a message recorded by SQL"):  # the setting has ended with the call
            sql.all(EVERYTHING, id=uuid4(), status="queued")


@pytest.mark.parametrize(
    ("content", "key"), [("", "a"), ("  \n", "a"), (None, "a"), ("x" * 65537, "a"), ("hola", ""), ("hola", "k" * 256)]
)
def test_queue_message_says_what_it_needs(office: Office, content: str | None, key: str) -> None:
    office.channel("twilio")
    with office.session() as sql:
        of = conversation(office, sql)["id"]
        with sql.refused(InvalidParameterValue, "needed"):
            sql.all("SELECT queue_message(%(of)s, %(content)s, %(key)s)", of=of, content=content, key=key)


def test_queue_message_knows_no_conversation_of_another_tenant(office: Office) -> None:
    office.channel("twilio")
    with office.session() as sql:
        theirs: UUID = conversation(office, sql)["id"]
    with office.session(office.new_tenant()) as sql, sql.refused(ForeignKeyViolation, "no conversation of this tenant"):
        sql.all("SELECT queue_message(%(of)s, 'hola')", of=theirs)
