"""webhooks.*, what was sent: the log, its filters, samples, and sending again."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from ingress.api.procedures.webhook_logs import _EVENTS
from shared.database import new_id
from shared.domain.webhooks import bodies
from shared.store.webhook_deliveries import figures, replays
from tests.support.api import ApiStage, Tenant
from tests.support.api_inputs import row

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = {"since": "2026-11-28T00:00:00Z", "until": "2026-11-29T00:00:00Z"}
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
STATES: dict[str, dict[str, Any]] = {
    "delivered": {"success": True, "status_code": 200},
    "failed": {"success": False, "status_code": 500, "error_message": "status"},
    "missed": {"held": "missed"},
    "waiting": {"held": "waiting"},
    "pending": {"due_at": NOON},
}


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def add(
    api: ApiStage, webhook: str, state: str, minute: int = 0, event: str = "message_received", **more: Any
) -> str:
    """A delivery in a state, of an event at so many minutes past noon."""
    columns = {"event": event, "created_at": NOON + timedelta(minutes=minute), **STATES[state], **more}
    names = ", ".join(columns)
    places = ", ".join(f"${n}" for n in range(3, 3 + len(columns)))
    log_id = new_id()
    await api.pool.execute(
        f"INSERT INTO webhook_logs (tenant_id, webhook_id, id, {names}) "
        f"SELECT tenant_id, id, $2, {places} FROM webhooks WHERE id = $1",
        *(UUID(webhook), log_id, *columns.values()),
    )
    return str(log_id)


async def wanted(api: ApiStage, webhook: str) -> list[str]:
    """The deliveries that the worker is to send again."""
    rows = await api.rows(
        "SELECT id FROM webhook_logs WHERE webhook_id = $1 AND replay_at IS NOT NULL ORDER BY created_at, id",
        UUID(webhook),
    )
    return [str(one["id"]) for one in rows]


async def shown(api: ApiStage, whose: Tenant, webhook: str, **given: Any) -> list[str]:
    answer = await api.get(f"/v1/webhooks/{webhook}/logs", whose, params=given)
    assert answer.status == 200, answer.body
    return [one["id"] for one in answer.body["logs"]]


async def test_the_log_is_shown_newest_first_and_page_by_page(api: ApiStage) -> None:
    ana = await api.tenant()
    webhook, other = await row(api, ana, "webhooks"), await row(api, ana, "webhooks")
    made = [await add(api, webhook, "delivered", n) for n in range(5)]
    await add(api, other, "delivered")
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await api.get(f"/v1/webhooks/{webhook}/logs", ana, params={"limit": "2", **cursor})
        found += [one["id"] for one in answer.body["logs"]]
        if answer.body["nextCursor"] is None:
            break
        cursor = {"cursor": answer.body["nextCursor"]}
    assert found == made[::-1]


async def test_the_log_is_filtered_by_state_event_and_time(api: ApiStage) -> None:
    ana = await api.tenant()
    webhook = await row(api, ana, "webhooks")
    made = {state: await add(api, webhook, state, n) for n, state in enumerate(STATES)}
    for state, log_id in made.items():
        assert await shown(api, ana, webhook, state=state) == [log_id]
    contact = await add(api, webhook, "delivered", 30, "contact_created")
    assert await shown(api, ana, webhook, event="contact_created") == [contact]
    since, until = "2026-11-28T12:01:00Z", "2026-11-28T12:03:00Z"
    assert await shown(api, ana, webhook, since=since, until=until) == [made["missed"], made["failed"]]
    assert await shown(api, ana, webhook, since=since, until=until, state="failed") == [made["failed"]]
    answer = await api.get(f"/v1/webhooks/{webhook}/logs", ana, params={"event": "message_recieved"})
    assert (answer.problem, answer.pointers) == ("invalid-input", ["#/event"])


async def test_a_delivery_is_shown_with_its_body_and_each_attempt(api: ApiStage) -> None:
    ana = await api.tenant()
    webhook = await row(api, ana, "webhooks")
    attempts = [
        {"number": 1, "at": "2026-11-28T12:00:00Z", "ended_at": "2026-11-28T12:00:01Z", "status": 500, "ms": 31,
         "response": "no", "error": "status", "kind": "delivery"},
        {"number": 2, "at": "2026-11-28T12:00:06Z", "ended_at": None, "kind": "delivery"},
    ]  # fmt: skip
    log_id = await add(api, webhook, "pending", payload={"type": "x"}, attempts=attempts, attempt_count=1)
    answer = await api.get(f"/v1/webhooks/{webhook}/log", ana, params={"logId": log_id})
    found = answer.body["log"]
    assert (found["id"], found["state"], found["attemptCount"]) == (log_id, "pending", 1)
    assert found["payload"] == {"type": "x"}
    assert [(one["number"], one["status"], one["ms"], one["response"], one["error"]) for one in found["attempts"]] == [
        (1, 500, 31, "no", "status"), (2, None, None, None, None)
    ]  # fmt: skip
    assert found["attempts"][1]["endedAt"] is None


async def test_a_sample_is_stored_for_one_attempt_and_is_no_delivery_of_an_event(api: ApiStage) -> None:
    ana = await api.tenant()
    webhook = await row(api, ana, "webhooks")
    answer = await api.post(f"/v1/webhooks/{webhook}/test", ana, {"event": "contact_created"})
    (stored,) = await api.rows("SELECT * FROM webhook_logs WHERE webhook_id = $1", UUID(webhook))
    assert str(stored["id"]) == answer.body["logId"]
    assert stored["payload"] == bodies.sample(_EVENTS["contact_created"])
    assert (stored["event"], stored["replay_kind"], stored["due_at"]) == ("contact_created", "test", None)
    assert stored["replay_at"] is not None
    (health,) = await api.rows("SELECT due_at FROM webhook_health WHERE webhook_id = $1", UUID(webhook))
    assert health["due_at"] <= datetime.now(UTC), "its worker comes at once"
    found = (await api.get(f"/v1/webhooks/{webhook}/log", ana, params={"logId": answer.body["logId"]})).body["log"]
    assert (found["isTest"], found["state"]) == (True, "pending")
    refused = await api.post(f"/v1/webhooks/{webhook}/test", ana, {"event": "contact_*"})
    assert (refused.problem, refused.pointers) == ("invalid-input", ["#/event"])


@pytest.mark.parametrize("state", STATES)
async def test_one_delivery_is_sent_again_in_whatever_state(api: ApiStage, state: str) -> None:
    ana = await api.tenant()
    webhook = await row(api, ana, "webhooks")
    log_id = await add(api, webhook, state)
    await add(api, webhook, "failed")
    answer = await api.post(f"/v1/webhooks/{webhook}/replay", ana, {"logId": log_id})
    assert answer.body == {"count": 1, "isMore": False}
    assert await wanted(api, webhook) == [log_id]
    (event,) = [one for one in await api.events(ana, "webhook") if one["name"] == "webhook.replayed"]
    assert event["detail"] == {"webhook_id": webhook, "count": 1}


async def test_a_delivery_of_another_webhook_or_one_that_was_erased_is_not_sent_again(api: ApiStage) -> None:
    ana = await api.tenant()
    webhook, other = await row(api, ana, "webhooks"), await row(api, ana, "webhooks")
    of_other = await add(api, other, "failed")
    erased = await add(api, webhook, "failed", metadata={"erased": True})
    answer = await api.post(f"/v1/webhooks/{webhook}/replay", ana, {"logId": of_other})
    assert (answer.problem, answer.pointers) == ("not-found", ["#/logId"])
    answer = await api.post(f"/v1/webhooks/{webhook}/replay", ana, {"logId": erased})
    assert (answer.problem, answer.status) == ("conflict", 409)
    assert await wanted(api, webhook) == await wanted(api, other) == []


async def test_a_range_of_time_is_noted_for_the_clock(api: ApiStage) -> None:
    ana = await api.tenant()
    webhook = await row(api, ana, "webhooks")
    for n, state in enumerate(STATES):
        await add(api, webhook, state, n)
    await add(api, webhook, "failed", 2, metadata={"test": True})
    await add(api, webhook, "failed", 2, metadata={"erased": True})
    await add(api, webhook, "delivered", 90)
    since, until = "2026-11-28T12:00:00Z", "2026-11-28T13:00:00Z"
    answer = await api.post(f"/v1/webhooks/{webhook}/replay", ana, {"since": since, "until": until})
    assert answer.body == {"count": 3, "isMore": False}, "what is pending or waits comes by itself"
    (noted,) = await api.rows("SELECT * FROM webhook_replays WHERE webhook_id = $1", UUID(webhook))
    assert (noted["since"], noted["until"]) == (NOON, NOON + timedelta(hours=1))
    assert noted["only_failed"] is False
    answer = await api.post(f"/v1/webhooks/{webhook}/recover", ana, {"since": since})
    assert answer.body == {"count": 2, "isMore": False}
    assert await wanted(api, webhook) == []


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({}, "#/since"),
        ({"until": "2026-11-28T13:00:00Z"}, "#/since"),
        ({"since": "2026-11-28T13:00:00Z", "until": "2026-11-28T12:00:00Z"}, "#/since"),
        ({"since": "9000-01-01T00:00:00Z"}, "#/since"),
        ({"logId": str(new_id()), "since": "2026-11-28T12:00:00Z"}, "#/logId"),
    ],
)
async def test_a_replay_says_what_is_wrong_with_its_range(api: ApiStage, given: dict[str, Any], pointer: str) -> None:
    ana = await api.tenant()
    answer = await api.post(f"/v1/webhooks/{await row(api, ana, 'webhooks')}/replay", ana, given)
    assert (answer.problem, answer.pointers) == ("invalid-input", [pointer])


async def test_a_webhook_has_so_many_ranges_at_once_and_no_more(api: ApiStage) -> None:
    ana = await api.tenant()
    webhook = await row(api, ana, "webhooks")
    await add(api, webhook, "failed")
    given = {"since": "2026-11-28T11:00:00Z"}
    answers = [await api.post(f"/v1/webhooks/{webhook}/recover", ana, given) for _ in range(replays.MOST_RANGES + 1)]
    assert [one.status for one in answers] == [200] * replays.MOST_RANGES + [409]
    assert answers[-1].problem == "conflict"


async def test_a_range_of_very_many_is_asked_for_in_a_moment(api: ApiStage) -> None:
    ana = await api.tenant()
    webhook = await row(api, ana, "webhooks")
    await api.pool.execute(
        "INSERT INTO webhook_logs (tenant_id, webhook_id, event, success, created_at) "
        "SELECT tenant_id, id, 'message_received', false, $2 FROM webhooks, generate_series(1, $3) WHERE id = $1",
        *(UUID(webhook), NOON, replays.MOST_COUNTED + 100),
    )
    before = datetime.now(UTC)
    answer = await api.post(f"/v1/webhooks/{webhook}/recover", ana, {"since": "2026-11-28T11:00:00Z"})
    assert answer.body["isMore"] is True
    assert answer.body["count"] > replays.MOST_COUNTED
    assert datetime.now(UTC) - before < timedelta(seconds=2)


async def test_the_kinds_of_events_have_a_schema_and_a_sample_of_the_body(api: ApiStage) -> None:
    answer = await api.get("/v1/webhooks/event-types", await api.tenant())
    found = {one["name"]: one for one in answer.body["eventTypes"]}
    assert set(found) == set(_EVENTS)
    for name, one in found.items():
        assert one["version"] == one["sample"]["version"] == one["jsonSchema"]["properties"]["version"]["const"]
        assert one["sample"]["type"] == name


async def test_the_figures_say_what_waits_and_which_webhooks_fail_or_are_disabled(api: ApiStage) -> None:
    ana = await api.tenant()
    healthy, failing, disabled = [await row(api, ana, "webhooks") for _ in range(3)]
    for n, state in enumerate(STATES):
        await add(api, healthy, state, n)
    await add(api, healthy, "failed", metadata={"test": True})
    await api.pool.execute(
        "INSERT INTO webhook_health (tenant_id, webhook_id, failures, disabled_at) "
        "VALUES ($1, $2, 4, NULL), ($1, $3, 10, now()) ON CONFLICT (tenant_id, webhook_id) DO UPDATE "
        "SET failures = EXCLUDED.failures, disabled_at = EXCLUDED.disabled_at",
        *(ana.id, UUID(failing), UUID(disabled)),
    )
    answer = await api.get("/v1/stats/webhooks", ana, params=DAY)
    assert (answer.body["failing"], answer.body["disabled"]) == (1, 1)
    found = {one["webhookId"]: one for one in answer.body["webhooks"]}
    assert {name: found[healthy][name] for name in ("waiting", "delivered", "failed", "missed")} == {
        "waiting": 1, "delivered": 1, "failed": 1, "missed": 1
    }  # fmt: skip
    assert [found[one]["isFailing"] for one in (healthy, failing, disabled)] == [False, True, False]
    assert found[disabled]["disabledAt"] is not None


async def test_of_many_deliveries_the_newest_are_counted_and_it_says_so(
    api: ApiStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MOST_COUNTED", 4)
    monkeypatch.setattr(figures, "LEAST_COUNTED", 1)
    ana = await api.tenant()
    busy, quiet = await row(api, ana, "webhooks"), await row(api, ana, "webhooks")
    for minute, state in enumerate(("failed", "failed", "delivered", "delivered")):
        await add(api, busy, state, minute)
    for _ in range(2):
        await add(api, quiet, "delivered")
    answer = await api.get("/v1/stats/webhooks", ana, params=DAY)
    found = {one["webhookId"]: (one["delivered"], one["failed"], one["isMore"]) for one in answer.body["webhooks"]}
    assert found == {busy: (2, 1, True), quiet: (2, 0, False)}
