"""The 24-hour window is one rule, whether SQL is asked or Python."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared import database
from shared.domain import window
from shared.settings import Settings
from shared.store.messages import windows
from tests.schema.people import Connection, add_channel, add_conversation, add_tenant, as_api, as_worker

H, M, S, US = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1), timedelta(microseconds=1)
OPEN_FOR = 24 * H - 2 * M
NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
NEW_YORK, LORD_HOWE = "America/New_York", "Australia/Lord_Howe"  # the latter moves its clocks by half an hour
# Clocks forward and back in both zones, a minute and a day around the change.
CHANGES = {
    NEW_YORK: (datetime(2026, 3, 8, 7, 0, tzinfo=UTC), datetime(2026, 11, 1, 6, 0, tzinfo=UTC)),
    LORD_HOWE: (datetime(2026, 10, 3, 15, 30, tzinfo=UTC), datetime(2026, 4, 4, 15, 0, tzinfo=UTC)),
}

EDGES: dict[str, tuple[timedelta | None, bool]] = {
    "never wrote": (None, False),
    "this moment": (timedelta(0), True),
    "a moment ago": (US, True),
    "an hour ago": (H, True),
    "a microsecond before the margin": (OPEN_FOR - US, True),
    "exactly the margin": (OPEN_FOR, False),
    "a microsecond into the margin": (OPEN_FOR + US, False),
    "a microsecond before 24 hours": (24 * H - US, False),
    "exactly 24 hours": (24 * H, False),
    "a microsecond after 24 hours": (24 * H + US, False),
    "23 hours, a short day": (23 * H, True),
    "25 hours, a long day": (25 * H, False),
    "last year": (timedelta(days=365), False),
    "a microsecond ahead": (-US, True),
    "a day ahead": (-24 * H, True),
    "a year ahead": (timedelta(days=-365), True),
}


def by_sql(connection: Connection, zone: str, wrote_at: datetime | None, now: datetime) -> tuple[bool, datetime | None]:
    """What SQL says of it in a session of this time zone: whether the window is open, and when it closes."""
    connection.execute("SELECT set_config('timezone', %s, false)", (zone,))
    row = connection.execute(
        "SELECT window_is_open(%s::timestamptz, %s::timestamptz), window_closes_at(%s::timestamptz)",
        (wrote_at, now, wrote_at),
    ).fetchone()
    assert row is not None
    # In UTC: Python calls no two times of an hour that the clocks repeat equal, where their zones differ.
    return row[0], None if row[1] is None else row[1].astimezone(UTC)


def in_zone(moment: datetime | None, zone: str) -> datetime | None:
    return None if moment is None else moment.astimezone(ZoneInfo(zone))


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK, LORD_HOWE])
def test_both_sides_agree_on_every_edge_also_on_the_days_on_which_clocks_change(database_url: str, zone: str) -> None:
    moments = [NOON, *(change + away for change in CHANGES.get(zone, ()) for away in (-M, timedelta(0), M, 12 * H))]
    with psycopg.connect(database_url, autocommit=True) as connection:
        for now in moments:
            for name, (ago, opened) in EDGES.items():
                wrote_at = None if ago is None else now - ago
                here = in_zone(wrote_at, zone)
                assert window.is_open(here, now.astimezone(ZoneInfo(zone))) is opened, (name, now)
                assert by_sql(connection, zone, wrote_at, now) == (opened, window.closes_at(here)), (name, now)


def test_both_sides_agree_on_any_moment(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:

        @hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            st.none() | st.timedeltas(-timedelta(days=2), timedelta(days=2)),
            st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
            st.sampled_from(["UTC", NEW_YORK, LORD_HOWE]),
        )
        def agree(ago: timedelta | None, moment: datetime, zone: str) -> None:
            now = moment.replace(tzinfo=UTC)
            wrote_at = None if ago is None else now - ago
            here = in_zone(wrote_at, zone)
            assert by_sql(connection, zone, wrote_at, now) == (window.is_open(here, now), window.closes_at(here))

        agree()


def test_a_time_without_a_zone_is_no_moment() -> None:
    with pytest.raises(ValueError, match="time zone"):
        window.is_open(NOON.replace(tzinfo=None), NOON)
    with pytest.raises(TypeError):
        window.is_open(NOON, NOON.replace(tzinfo=None))


def test_the_statements_clock_counts_and_not_the_transactions(database_url: str) -> None:
    """The clock is PostgreSQL's: a message that is one second from the margin, before and after that second."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT now() - %s::interval", (OPEN_FOR - S,)).fetchone()
        assert row is not None
        asked = "SELECT is_within_24_hour_window(%s::timestamptz), is_within_24_hour_window(NULL)"
        assert connection.execute(
            "SELECT is_within_24_hour_window(now() - %s::interval), is_within_24_hour_window(now() - %s::interval)",
            (OPEN_FOR - 30 * M, OPEN_FOR),
        ).fetchone() == (True, False)
        connection.execute("SELECT pg_sleep(1.1)")
        assert connection.execute(asked, row).fetchone() == (False, False), "the transaction is a second old"


def test_the_window_of_a_conversation_is_one_row(database_url: str) -> None:
    with as_worker(database_url) as worker:
        ours, theirs = add_tenant(worker), add_tenant(worker)
        sms, mail = uuid4(), uuid4()
        add_channel(worker, ours.id, sms, ours.endpoint_id, provider="twilio", kind="sms")
        add_channel(worker, ours.id, mail, ours.endpoint_id, provider="email", kind="email")
        now = datetime.now(UTC)
        fresh, stale, ahead = now - H, now - 25 * H, now + H
        cases = {
            add_conversation(worker, ours, last_user_message_at=fresh): (True, fresh + OPEN_FOR, fresh),
            add_conversation(worker, ours, last_user_message_at=stale): (False, stale + OPEN_FOR, stale),
            add_conversation(worker, ours, last_user_message_at=ahead): (True, ahead + OPEN_FOR, ahead),
            add_conversation(worker, ours): (False, None, None),
            add_conversation(worker, ours, sms, last_user_message_at=stale): (True, None, stale),
            add_conversation(worker, ours, mail): (True, None, None),
            add_conversation(worker, ours, last_user_message_at=fresh, deleted_at=now): (False, None, None),
            add_conversation(worker, theirs, last_user_message_at=fresh): (False, None, None),
            uuid4(): (False, None, None),
        }
    with as_api(database_url, ours.id) as api:
        for conversation, expected in cases.items():
            rows = api.execute("SELECT * FROM check_whatsapp_24_hour_window(%s)", (conversation,)).fetchall()
            assert rows == [expected]
    for kind, (can, until, wrote_at) in zip(
        ("whatsapp", "whatsapp", "whatsapp", "whatsapp", "sms", "email"), cases.values(), strict=False
    ):
        assert window.check(kind, wrote_at, now) == window.WindowStatus(can, until, wrote_at)  # type: ignore[arg-type]


def test_what_needs_a_template_is_active_on_whatsapp_of_that_provider_and_closed(database_url: str) -> None:
    with as_worker(database_url) as worker:
        ours, theirs = add_tenant(worker), add_tenant(worker)
        sms, meta = uuid4(), uuid4()
        add_channel(worker, ours.id, sms, ours.endpoint_id, provider="twilio", kind="sms")
        add_channel(worker, ours.id, meta, ours.endpoint_id, provider="meta", kind="whatsapp")
        now = datetime.now(UTC)
        closed: dict[str, Any] = {"last_user_message_at": now - 25 * H}
        older = add_conversation(worker, ours, **closed, last_message_at=now - 2 * H)
        silent = add_conversation(worker, ours, last_message_at=now - H)
        add_conversation(worker, ours, last_user_message_at=now - H)
        add_conversation(worker, ours, **closed, status="escalated")
        add_conversation(worker, ours, **closed, status="closed")
        add_conversation(worker, ours, **closed, deleted_at=now)
        add_conversation(worker, ours, sms, **closed)
        of_meta = add_conversation(worker, ours, meta, provider="meta", **closed)
        add_conversation(worker, theirs, **closed)
        # The workers' role sees every tenant; without one of its own it gets an error, and not an empty list.
        with pytest.raises(psycopg.errors.NotNullViolation, match="this session has no tenant"):
            worker.execute("SELECT id FROM conversations_needing_templates('twilio')")
    with as_api(database_url, ours.id) as api:
        asked = "SELECT id FROM conversations_needing_templates(provider => %s)"
        assert api.execute(asked, ("twilio",)).fetchall() == [(silent,), (older,)]
        assert api.execute(asked, ("meta",)).fetchall() == [(of_meta,)]
        assert api.execute(asked, ("kommo",)).fetchall() == []


async def test_the_store_asks_the_same(settings: Settings) -> None:
    with as_worker(settings.database_url.get_secret_value()) as worker:
        ours = add_tenant(worker)
        wrote_at = datetime.now(UTC) - 25 * H
        conversation = add_conversation(worker, ours, last_user_message_at=wrote_at)
    async with database.ApiPool(settings, process="test", size=1) as api, api.tenant_transaction(ours.id) as connection:
        status = await windows.check_whatsapp_24_hour_window(connection, conversation)
        assert status == window.WindowStatus(False, wrote_at + OPEN_FOR, wrote_at)


def test_a_worker_is_answered_by_the_id_alone_and_who_sees_nothing_gets_an_error(database_url: str) -> None:
    """Never a false that only means that the conversation could not be seen."""
    with as_worker(database_url) as worker:
        ours, theirs = add_tenant(worker), add_tenant(worker)
        wrote_at = datetime.now(UTC) - H
        for tenant in (ours, theirs):
            conversation = add_conversation(worker, tenant, last_user_message_at=wrote_at)
            asked = "SELECT * FROM check_whatsapp_24_hour_window(%s)"
            assert worker.execute(asked, (conversation,)).fetchall() == [(True, wrote_at + OPEN_FOR, wrote_at)]
        with pytest.raises(psycopg.errors.NoDataFound, match="sees no conversation"):
            worker.execute(asked, (uuid4(),))
    for role in ("palomar_api", "NONE"):
        with psycopg.connect(database_url) as connection:
            connection.execute(f"SET ROLE {role}".encode())
            row = connection.execute("SELECT count(*) FROM conversations").fetchone()
            if row == (0,):  # the owner sees what a role that it inherits from sees
                with pytest.raises(psycopg.errors.NoDataFound, match="sees no conversation"):
                    connection.execute(asked, (conversation,))
            else:
                assert connection.execute(asked, (conversation,)).fetchall() == [(True, wrote_at + OPEN_FOR, wrote_at)]
