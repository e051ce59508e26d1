"""The clock records that a WhatsApp window closes soon, once for each window."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.domain import window
from shared.settings import Settings
from shared.store import expiring_windows
from shared.store.expiring_windows import ExpiringWindow
from tests.support.stage import Stage, staged
from workers.clock import windows
from workers.clock.tasks import TASKS
from workers.persist import worker

OPEN = window.LENGTH - window.MARGIN
SILENT: dict[str, Any] = {"reply": {"engine": "none"}}


def closing_in(left: timedelta) -> timedelta:
    """How long ago the customer of such a window wrote."""
    return OPEN - left


def minutes(setting: object) -> dict[str, Any]:
    return SILENT | {"window": {"expiring_minutes": setting}}


async def announced(stage: Stage) -> list[UUID]:
    """The conversations of the events, in their order."""
    rows = await stage.rows("SELECT conversation_id FROM events WHERE name = 'window.expiring' ORDER BY seq")
    return [row["conversation_id"] for row in rows]


async def note(stage: Stage, within: timedelta = window.LENGTH, limit: int = 100) -> list[ExpiringWindow]:
    async with stage.pool.acquire() as connection, connection.transaction():
        return await expiring_windows.note(connection, within, limit)


async def test_several_clocks_together_note_each_window_once(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        for n in range(1, 31):
            await stage.converse(customer=f"+34600{n:06}", last_message_ago=closing_in(timedelta(minutes=n)))
        found: list[UUID] = []

        async def clock() -> None:
            while noted := await note(stage, limit=7):
                found.extend(one.conversation_id for one in noted)

        await asyncio.gather(*(clock() for _ in range(4)))
        found += [one.conversation_id for one in await note(stage)]  # what another one's lock hid to the last
        assert len(found) == len(set(found)) == 30


async def test_the_clock_records_a_window_once_and_the_next_one_anew(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "expiring_windows", windows.ExpiringWindows())
    async with staged(settings, SILENT, clock_batch=2) as stage:
        ours = {
            await stage.converse(customer=f"+34600{n:06}", last_message_ago=closing_in(timedelta(minutes=n)))
            for n in range(1, 6)
        }
        async with stage.working("clock"):
            await stage.until(stage.count, "events WHERE name = 'window.expiring'", equals=5)
            assert set(await announced(stage)) == ours
            await worker.persist([stage.said("hola", sender="+34600000001")], stage.context)
            again = await stage.value("SELECT id FROM conversations WHERE recipient = '+34600000001'")
            await asyncio.sleep(1.2)  # a look
            assert await stage.count("events WHERE name = 'window.expiring'") == 5
            await stage.pool.execute(
                "UPDATE conversations SET last_user_message_at = now() - $2::interval WHERE id = $1",
                *(again, closing_in(timedelta(minutes=60, seconds=-1))),
            )
            await stage.until(stage.count, "events WHERE name = 'window.expiring'", equals=6)
        assert (await announced(stage))[-1] == again


async def test_the_event_says_when_the_window_closes(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        conversation = await stage.converse(last_message_ago=closing_in(timedelta(minutes=30)))
        task = windows.ExpiringWindows()
        async with stage.pool.acquire() as connection, connection.transaction():
            await task(connection, stage.context)
        (event,) = await stage.rows("SELECT * FROM events WHERE name = 'window.expiring'")
        assert (event["tenant_id"], event["channel_id"]) == (stage.ours.tenant_id, stage.ours.id)
        wrote = await stage.value("SELECT last_user_message_at FROM conversations WHERE id = $1", conversation)
        assert datetime.fromisoformat(event["detail"]["closes_at"]) == window.closes_at(wrote)


async def test_a_rollback_leaves_the_window_to_the_next_look(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        await stage.converse(last_message_ago=closing_in(timedelta(minutes=30)))
        async with stage.pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            assert len(await expiring_windows.note(connection, window.LENGTH, 10)) == 1
            await transaction.rollback()
        assert len(await note(stage)) == 1
        assert await note(stage) == []


@pytest.mark.parametrize(
    ("channel", "left", "found"),
    [
        (SILENT, 59, True),
        (SILENT, 61, False),
        (minutes(5), 6, False),
        (minutes(5), 4, True),
        (minutes(600), 599, True),
        (minutes(0), 1, False),
        (SILENT, -1, False),
    ],
)
async def test_the_channels_setting_says_when(
    settings: Settings, channel: dict[str, Any], left: int, found: bool
) -> None:
    async with staged(settings, channel) as stage:
        await stage.converse(last_message_ago=closing_in(timedelta(minutes=left)))
        assert bool(await note(stage)) is found


@pytest.mark.parametrize("wrong", ['"5"', "null", "[]", '{"expiring_minutes": "5"}', '{"expiring_minutes": -1e300}'])
async def test_a_setting_by_sql_that_is_none_stops_no_other_channel(settings: Settings, wrong: str) -> None:
    async with staged(settings, SILENT) as stage:
        beside = await stage.add_channel(SILENT)
        await stage.pool.execute(
            "UPDATE channels SET settings = jsonb_build_object('window', $2::text::jsonb) WHERE id = $1",
            *(stage.ours.id, wrong),
        )
        ours = await stage.converse(last_message_ago=closing_in(timedelta(minutes=30)), ours=beside)
        assert ours in {one.conversation_id for one in await note(stage)}


async def test_only_whatsapp_has_windows_and_deleted_conversations_have_none(settings: Settings) -> None:
    async with staged(settings, SILENT, kind="sms") as stage:
        whatsapp = await stage.add_channel(SILENT, beside=stage.ours)
        soon = closing_in(timedelta(minutes=30))
        await stage.converse(last_message_ago=soon)
        gone = await stage.converse(last_message_ago=soon, ours=whatsapp, customer="+34600000001")
        await stage.pool.execute("UPDATE conversations SET deleted_at = now() WHERE id = $1", gone)
        left = await stage.converse(last_message_ago=soon, ours=whatsapp, customer="+34600000002")
        assert [one.conversation_id for one in await note(stage)] == [left]


async def test_a_look_goes_over_what_has_lately_come_near_and_one_over_all_finds_the_rest(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        lately = await stage.converse(last_message_ago=closing_in(timedelta(minutes=59)))
        late = await stage.converse(customer="+34600000009", last_message_ago=closing_in(timedelta(minutes=20)))
        assert [one.conversation_id for one in await note(stage, timedelta(minutes=2))] == [lately]
        assert [one.conversation_id for one in await note(stage)] == [late]


async def test_a_locked_conversation_keeps_no_other_waiting(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        soon = closing_in(timedelta(minutes=30))
        locked = await stage.converse(last_message_ago=soon)
        free = await stage.converse(customer="+34600000009", last_message_ago=soon)
        async with stage.pool.acquire() as other, other.transaction():
            await other.execute("SELECT FROM conversations WHERE id = $1 FOR UPDATE", locked)
            assert [one.conversation_id for one in await note(stage)] == [free]
        assert [one.conversation_id for one in await note(stage)] == [locked]


async def test_a_tenant_with_many_windows_takes_turns_with_the_others(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        soon = closing_in(timedelta(minutes=5))
        for n in range(1, 9):
            await stage.converse(customer=f"+34600{n:06}", last_message_ago=soon)
        beside = await stage.add_channel(SILENT)
        theirs = await stage.converse(last_message_ago=closing_in(timedelta(minutes=50)), ours=beside)
        assert beside.tenant_id != stage.ours.tenant_id
        found = await note(stage, limit=2)
        assert len(found) == 2
        assert theirs in {one.conversation_id for one in found}


async def test_a_look_reads_a_bounded_number_of_a_tenants_windows(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiring_windows, "MOST_READ", 4)
    async with staged(settings, SILENT) as stage:
        # Scans of two settings share what a look reads.
        other = await stage.add_channel(minutes(600), beside=stage.ours, address="+14155238887")
        for n in range(1, 4):
            await stage.converse(customer=f"+34600{n:06}", last_message_ago=closing_in(timedelta(minutes=n)))
        late = await stage.converse(last_message_ago=closing_in(timedelta(minutes=599)), ours=other)
        assert len(await note(stage)) == 2
        assert await note(stage) == [], "the first two are noted, and a scan reads no more"
        assert [one.conversation_id for one in await note(stage, timedelta(minutes=2))] == [late]
