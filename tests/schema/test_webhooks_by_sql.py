"""What a tenant may do with webhooks and their logs by SQL, and what it means."""

from uuid import UUID

import psycopg
import pytest
from psycopg.errors import CheckViolation, InsufficientPrivilege, ObjectNotInPrerequisiteState

from schema import migrate
from tests.schema.office import Office

BEFORE = "0055_webhook_deliveries"
ADD = "INSERT INTO webhooks (url, events) VALUES ('https://shop.example/in', '{message_received}') RETURNING id"
HEALTH = (
    "SELECT failures, first_failed_at IS NOT NULL AS failed, open_until IS NOT NULL AS open, probes, "
    "disabled_at IS NOT NULL AS disabled, disabled_reason AS reason, due_at <= now() AS due, holder FROM webhook_health"
)
HOLDER = UUID(int=7)
AS_IT_WAS = {
    "failures": 9, "failed": True, "open": True, "probes": 3, "disabled": True, "reason": "gone", "due": None,
    "holder": HOLDER,
}  # fmt: skip
RENEWED = {"failures": 0, "failed": False, "open": False, "probes": 0}
ENABLED = {**RENEWED, "disabled": False, "reason": None, "due": True, "holder": HOLDER}


def disabled(office: Office) -> UUID:
    """A webhook that Palomar has disabled."""
    with office.session() as sql:
        made: UUID = sql.one(ADD)["id"]
    office.worker(
        "INSERT INTO webhook_health (tenant_id, webhook_id, failures, first_failed_at, open_until, probes, "
        "disabled_at, disabled_reason, holder) "
        "VALUES (%(tenant)s, %(id)s, 9, now(), now() + interval '1 hour', 3, now(), 'gone', %(holder)s)",
        tenant=office.tenant, id=made, holder=HOLDER,
    )  # fmt: skip
    return made


def log(office: Office, webhook: UUID, columns: str, values: str) -> None:
    """A delivery as a worker makes it."""
    office.worker(
        f"INSERT INTO webhook_logs (tenant_id, webhook_id, event, {columns}) "
        f"VALUES (%(tenant)s, %(webhook)s, 'message_received', {values})",
        tenant=office.tenant, webhook=webhook,
    )  # fmt: skip


@pytest.mark.parametrize(
    "update", ["is_active = true", "is_active = true, name = 'again'", "is_active = true, url = 'https://b.example'"]
)
def test_to_switch_a_disabled_webhook_on_enables_it(office: Office, update: str) -> None:
    disabled(office)
    with office.session() as sql:
        assert sql.one(HEALTH) == AS_IT_WAS
        sql.all(f"UPDATE webhooks SET {update}")
        assert sql.one(HEALTH) == ENABLED


@pytest.mark.parametrize("update", ["name = 'x'", "is_active = false", "events = '{*}'", "url = url"])
def test_another_update_leaves_it_disabled(office: Office, update: str) -> None:
    disabled(office)
    with office.session() as sql:
        sql.all(f"UPDATE webhooks SET {update}")
        assert sql.one(HEALTH) == AS_IT_WAS


def test_a_worker_enables_it_in_the_same_way(office: Office) -> None:
    disabled(office)
    office.worker("UPDATE webhooks SET is_active = true")
    assert office.worker(HEALTH) == [ENABLED]


def test_a_new_url_closes_the_breaker_and_enables_nothing(office: Office) -> None:
    disabled(office)
    with office.session() as sql:
        sql.all("UPDATE webhooks SET url = 'https://b.example'")
        assert sql.one(HEALTH) == {**AS_IT_WAS, **RENEWED}
    office.worker("UPDATE webhook_health SET disabled_at = NULL, failures = 9, due_at = now() + interval '1 hour'")
    with office.session() as sql:
        sql.all("UPDATE webhooks SET url = 'https://c.example'")
        assert sql.one(HEALTH) | {"reason": None} == ENABLED, "and is tried at once"


def test_a_webhook_that_does_well_stays_as_it_is_when_it_is_switched_on_again(office: Office) -> None:
    disabled(office)
    office.worker("UPDATE webhook_health SET disabled_at = NULL, disabled_reason = NULL")
    before = office.worker(HEALTH)
    with office.session() as sql:
        sql.all("UPDATE webhooks SET is_active = true")
    assert office.worker(HEALTH) == before
    with office.session() as sql:
        sql.all("UPDATE webhooks SET is_active = false")
        sql.all("UPDATE webhooks SET is_active = true")
    assert office.worker(HEALTH) == [ENABLED]


def test_a_session_that_writes_the_health_itself_can_only_renew_it(office: Office) -> None:
    disabled(office)
    with office.session() as sql:
        sql.all("UPDATE webhook_health SET failures = 1000, probes = 5, due_at = now() - interval '1 day'")
        assert sql.one(HEALTH) == {**AS_IT_WAS, **RENEWED}
        sql.all("UPDATE webhook_health SET disabled_at = now() - interval '1 day', disabled_reason = 'mine'")
        assert sql.one(HEALTH)["reason"] == "gone"
        sql.all("UPDATE webhook_health SET disabled_at = NULL, disabled_reason = 'mine', due_at = 'infinity'")
        assert sql.one(HEALTH) == ENABLED


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE webhook_health SET holder = NULL",
        "INSERT INTO webhook_health (webhook_id) SELECT id FROM webhooks",
        "DELETE FROM webhook_health",
        "SELECT sealed_private_key FROM webhook_keys",
        "UPDATE webhook_keys SET public_key = ''",
        "SELECT * FROM webhook_sequences",
        "SELECT * FROM webhook_cursor",
        *(
            f"UPDATE webhook_logs SET {column} = DEFAULT"
            for column in ("attempts", "held", "replay_at", "replay_kind", "sequence", "conversation_id", "due_at")
        ),
        "INSERT INTO webhook_logs (webhook_id, event, due_at) SELECT id, 'x', now() FROM webhooks",
        "INSERT INTO webhook_logs (webhook_id, event, attempts) SELECT id, 'x', '[]' FROM webhooks",
    ],
)
def test_what_workers_alone_write_is_no_sessions(office: Office, statement: str) -> None:
    disabled(office)
    with office.session() as sql, sql.refused(InsufficientPrivilege, "permission denied"):
        sql.all(statement)


@pytest.mark.parametrize(
    ("columns", "values"), [("due_at", "now()"), ("held", "'missed'"), ("replay_at, success", "now(), true")]
)
def test_a_delivery_that_is_under_way_is_not_changed_but_may_be_given_up(
    office: Office, columns: str, values: str
) -> None:
    webhook = disabled(office)
    log(office, webhook, columns, values)
    with office.session() as sql:
        with sql.refused(ObjectNotInPrerequisiteState, "not done yet"):
            sql.all("UPDATE webhook_logs SET success = true")
        assert sql.count("DELETE FROM webhook_logs") == 1


def test_a_log_that_is_over_is_the_tenants_to_change(office: Office) -> None:
    log(office, disabled(office), "success, completed_at", "true, now()")
    with office.session() as sql:
        assert sql.count("UPDATE webhook_logs SET response = 'seen', attempt_count = 2") == 1


@pytest.mark.parametrize(
    "values",
    [
        "payload = jsonb_build_object('x', repeat('x', 1048576))",
        "metadata = jsonb_build_object('x', repeat('x', 1048576))",
        "response = repeat('x', 1048576)",
        "error_message = repeat('x', 1048576)",
        "event = ''",
        "event = repeat('x', 129)",
        "attempt_count = 2000000000",
    ],
)
def test_a_log_is_no_longer_than_what_workers_read(office: Office, values: str) -> None:
    webhook = disabled(office)
    column, value = values.split(" = ", 1)
    with office.session() as sql:
        with sql.refused(CheckViolation, f"{column} of a webhook's log"):
            event = "" if column == "event" else "'x', "
            name = column if column == "event" else f"event, {column}"
            sql.all(f"INSERT INTO webhook_logs (webhook_id, {name}) VALUES (%(id)s, {event}{value})", id=webhook)
        sql.all("INSERT INTO webhook_logs (webhook_id, event) VALUES (%(id)s, 'x')", id=webhook)
        with sql.refused(CheckViolation, f"{column} of a webhook's log"):
            sql.all(f"UPDATE webhook_logs SET {values}")


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("events", "ARRAY[ARRAY['a']]", "check_webhook_lists"),
        ("events", "ARRAY[NULL]::text[]", "check_webhook_lists"),
        ("tags", "ARRAY['a', NULL]", "check_webhook_lists"),
        ("channel_ids", "array_fill(gen_random_uuid(), ARRAY[1001])", "check_webhook_lists"),
        ("events", "array_fill(repeat('x', 7000), ARRAY[10])", "events of a webhook"),
        ("tags", "array_fill(repeat('x', 7000), ARRAY[10])", "tags of a webhook"),
        ("url", "'https://' || repeat('x', 8192)", "url of a webhook"),
        ("name", "repeat('x', 8193)", "name of a webhook"),
        ("secret", "repeat('x', 1025)", "secret of a webhook"),
        ("direction", "'sideways'", "check_webhook_direction"),
    ],
)
def test_a_webhook_is_as_matching_can_read_it(office: Office, column: str, value: str, says: str) -> None:
    with office.session() as sql:
        sql.all(ADD)
        with sql.refused(CheckViolation, says):
            sql.all(f"UPDATE webhooks SET {column} = {value}")


def test_a_tenant_has_so_many_webhooks(office: Office) -> None:
    many = "INSERT INTO webhooks (url) SELECT 'https://shop.example/' || n FROM generate_series(1, %(n)s) n"
    with office.session() as sql:
        with sql.refused(CheckViolation, "at most 500 webhooks"):
            sql.all(many, n=501)
        sql.all(many, n=500)
        sql.all("UPDATE webhooks SET deleted_at = now() WHERE url LIKE '%%/1'")
        sql.all(many, n=1)
        with sql.refused(CheckViolation, "at most 500 webhooks"):
            sql.all("UPDATE webhooks SET deleted_at = NULL")
    with office.session(office.new_tenant("Otra")) as sql:
        sql.all(many, n=1)


def test_the_migration_makes_plain_lists_of_what_is_there(office: Office) -> None:
    names = [step.name for step in migrate.status(office.url)]
    migrate.rollback(office.url, len(names) - names.index(BEFORE))
    add = "INSERT INTO webhooks (name, url, events) VALUES (%(name)s, 'https://a.example', "
    with office.session() as sql:
        sql.all(add + "ARRAY[ARRAY['a', 'b'], ARRAY['c', NULL]])", name="1 nested")
        sql.all(add + "array_fill('x'::text, ARRAY[1200]))", name="2 long")
        sql.all(add + "ARRAY['a', NULL, 'b'])", name="3 null")
        sql.all(add + "'{}')", name="4 empty")
    migrate.apply(office.url)
    with office.session() as sql:
        rows = [row["events"] for row in sql.all("SELECT events FROM webhooks ORDER BY name")]
    assert rows == [["a", "b", "c"], ["x"] * 1000, ["a", "b"], []]


def test_a_webhook_takes_what_is_its_own_with_it_and_a_conversation_leaves_the_log(office: Office) -> None:
    office.channel("twilio")
    webhook = disabled(office)
    with office.session() as sql:
        talk = sql.one(
            "INSERT INTO kommo_conversations (provider, phone) VALUES ('twilio', '+5493425123456') RETURNING id"
        )["id"]
    log(office, webhook, "conversation_id, sequence", f"'{talk}', 1")
    for table, column, value in (("keys", "public_key", "x"), ("sequences", "conversation_id, last", None)):
        values = f"'{talk}', 1" if value is None else f"'{value}'"
        office.worker(
            f"INSERT INTO webhook_{table} (tenant_id, webhook_id, {column}) VALUES (%(t)s, %(w)s, {values})",
            t=office.tenant, w=webhook,
        )  # fmt: skip
    with office.session() as sql:
        sql.all("DELETE FROM kommo_conversations")
        assert len(sql.all("SELECT id FROM webhook_logs")) == 1
        sql.all("DELETE FROM webhooks")
    for table in ("logs", "health", "keys", "sequences"):
        assert office.worker(f"SELECT tenant_id FROM webhook_{table}") == []


def test_matching_begins_with_what_happens_after_the_migration(office: Office) -> None:
    names = [step.name for step in migrate.status(office.url)]
    migrate.rollback(office.url, len(names) - names.index(BEFORE))
    office.worker("INSERT INTO events (name, tenant_id) VALUES ('before', %(tenant)s)", tenant=office.tenant)
    with psycopg.connect(office.url) as late:
        late.execute("SET ROLE palomar_worker")
        late.execute("INSERT INTO events (name, tenant_id) VALUES ('meanwhile', %s)", (office.tenant,))
        migrate.apply(office.url)
    office.worker("INSERT INTO events (name, tenant_id) VALUES ('after', %(tenant)s)", tenant=office.tenant)
    rows = office.worker(
        "SELECT name FROM events e, webhook_cursor c WHERE (e.xid, e.seq) > (c.xid, c.seq) ORDER BY e.xid, e.seq"
    )
    assert [row["name"] for row in rows] == ["meanwhile", "after"]
