"""How a channel's rate is shared out: one line of slots for all processes, replies before campaigns, what slows it."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from shared.domain.campaigns import pace
from shared.domain.campaigns.pace import Slowed
from shared.process import metrics
from shared.queue.jobs import Lane
from shared.sending.pacer import AHEAD, SLICE, Pacer, SlotTooFar
from shared.settings import Settings
from shared.store import rate_limits
from shared.store.rate_limits import IN_USE, Inbound, Request, Reservation
from tests.bench.pace import pace as pace_of
from tests.support.meta_payloads import PHONE_NUMBER_ID, entry, said, value
from tests.support.meta_stage import add_app, add_number, posted
from tests.support.pacing import in_processes, reserve_for
from tests.support.stage import Stage, staged
from workers.persist import worker

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    async with staged(settings) as made:
        yield made


def wanted(stage: Stage, lane: Lane = "normal", rate: float = 80.0, bulk_reserve: float = 0.2) -> Request:
    return Request(stage.ours.tenant_id, stage.ours.id, lane, rate, bulk_reserve)


async def reserve(
    stage: Stage, lane: Lane = "normal", slots: int = 1, *, ahead: float = 2.0, rate: float = 80.0, notice: float = 0.0,
    ahead_every: float = 0.0,
) -> Reservation:  # fmt: skip
    asked = Request(stage.ours.tenant_id, stage.ours.id, lane, rate, 0.2, slots, SLICE, ahead, notice, ahead_every)
    return await rate_limits.reserve(stage.pool, asked)


async def slot(pacer: Pacer, stage: Stage, asked: Request) -> float:
    """The slot of a message that takes no time to claim."""
    async with pacer.turn(stage.pool, asked, 2.0) as turn:
        return await turn.slot(2.0)


# -- slots -------------------------------------------------------------------------------------------------------------


async def test_slots_of_a_busy_channel_lie_on_one_line_and_none_is_saved_up(stage: Stage) -> None:
    first = await reserve(stage, slots=2)
    assert (first.slots, first.spacing) == (2, 1 / 80)
    assert first.begins == pytest.approx(first.now, abs=1e-5)
    second = await reserve(stage)
    assert second.begins == pytest.approx(first.begins + 2 / 80, abs=1e-5)
    await asyncio.sleep(0.2)
    idle = await reserve(stage, notice=0.03)
    assert idle.begins == pytest.approx(idle.now + 0.03, abs=1e-5)


async def test_a_reply_reserves_only_what_is_sent_now(stage: Stage) -> None:
    pacer = Pacer()
    first = await slot(pacer, stage, wanted(stage, rate=10.0))
    second = await slot(pacer, stage, wanted(stage, rate=10.0))
    assert second - first == pytest.approx(0.1, abs=0.02)
    left = await stage.value("SELECT extract(epoch FROM free_at - clock_timestamp())::float8 FROM rate_limits")
    assert left <= second + 0.1 - time.monotonic() + 0.01


async def test_what_is_too_far_off_is_not_reserved(stage: Stage) -> None:
    pacer = Pacer()
    await slot(pacer, stage, wanted(stage, rate=0.2))
    before = await stage.value("SELECT free_at FROM rate_limits")
    for lane in ("normal", "bulk"):
        with pytest.raises(SlotTooFar) as far:
            await slot(pacer, stage, wanted(stage, lane, rate=0.2))
        assert 4 < far.value.wait < 5.1
    assert await stage.value("SELECT free_at FROM rate_limits") == before


async def test_a_claimed_message_gets_another_slot_before_those_that_wait(stage: Stage) -> None:
    pacer, asked = Pacer(), wanted(stage, "bulk", rate=20.0)

    async def send(claim: float) -> float:
        async with pacer.turn(stage.pool, asked, 10.0) as turn:
            await asyncio.sleep(claim)
            return await turn.slot(10.0)

    slow = asyncio.create_task(send(0.3))
    others = [asyncio.create_task(send(0.0)) for _ in range(30)]
    assert await slow < sorted([await one for one in others])[12]


@pytest.mark.alone
@pytest.mark.parametrize("bulk_reserve", [pytest.param(0.0, marks=pytest.mark.soak), 0.2])
async def test_two_processes_keep_a_rate_of_a_thousand_and_use_it(stage: Stage, bulk_reserve: float) -> None:
    """Of the slots that were handed out and could be met; when the calls leave depends on the machine too."""
    noted = await in_processes(
        stage.settings, wanted(stage, "bulk", rate=1000.0, bulk_reserve=bulk_reserve), 3.0, processes=2
    )
    kept = pace_of(noted.slots, 1000.0)
    assert kept.keeps(1000.0)
    assert kept.used >= 0.9 * (1 - bulk_reserve), "95 % on an idle machine: `palomar bench campaign`"


async def test_a_message_whose_claim_took_too_long_leaves_once_in_another_slot(settings: Settings) -> None:
    async with staged(settings, {"rate": 20}, send_lease_margin=10.0) as stage:
        message = await stage.owe(await stage.converse(), "hola")
        async with stage.working("window"):
            await stage.until(stage.status, message, equals="ready")
        lost = metrics.SLOTS_LOST.labels("normal")._value.get()
        async with stage.working("send"):
            async with stage.pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT FROM messages FOR UPDATE")
                await stage.until(stage.count, "pg_locks WHERE NOT granted", equals=1)
                await asyncio.sleep(0.3)
            await stage.until(stage.status, message, equals="sent")
        assert metrics.SLOTS_LOST.labels("normal")._value.get() > lost
        assert (await stage.message(message))["attempts"] == 1


# -- two lanes ---------------------------------------------------------------------------------------------------------


async def test_a_campaign_leaves_the_reserve_to_replies(stage: Stage) -> None:
    first = await reserve(stage, "bulk", slots=10, rate=100.0)
    assert first.slots == 3, "a slice of its own rate"
    second = await reserve(stage, "bulk", slots=10, rate=100.0)
    reply = await reserve(stage, rate=100.0)
    assert reply.begins == pytest.approx(second.begins + 3 / 100, abs=1e-5), "a slot counts against the whole rate"
    begins = [(await reserve(stage, "bulk", slots=10, rate=100.0)).begins for _ in range(30)]
    assert begins[1] - begins[0] == pytest.approx(3 / 100, abs=1e-5), "it makes up for the reply"
    assert begins[-1] - begins[-11] == pytest.approx(10 * 3 / 80, abs=1e-5)


async def test_a_campaign_reserves_only_what_is_near(stage: Stage) -> None:
    taken = 0.0
    for _ in range(50):
        found = await reserve(stage, "bulk", slots=100, ahead=AHEAD, rate=100.0)
        if not found.slots:
            assert AHEAD < found.begins - found.now < AHEAD + SLICE / 0.8 + 0.01
            taken = found.now
            break
    assert taken, "it reserves without an end"
    reply = await reserve(stage, rate=100.0)
    assert reply.begins - reply.now < AHEAD + SLICE


async def test_a_reply_goes_ahead_of_a_campaigns_slots_and_takes_its_own_on_the_line(stage: Stage) -> None:
    campaigns = await reserve(stage, "bulk", slots=10, rate=80.0)
    line = campaigns.begins + campaigns.slots / 80
    first = await reserve(stage, ahead_every=0.125)
    assert first.slots == 1
    assert first.begins == pytest.approx(first.now, abs=1e-5), "at once"
    second = await reserve(stage, ahead_every=0.125)
    assert second.begins == pytest.approx(line + 1 / 80, abs=1e-5), "one in so many seconds; the first took its slot"


async def test_no_reply_goes_ahead_of_others_or_on_a_slowed_channel(stage: Stage) -> None:
    for _ in range(20):  # of no campaign
        last = await reserve(stage, ahead_every=0.01)
    assert last.begins > last.now + 15 / 80
    await reserve(stage, "bulk")
    far = await reserve(stage, ahead_every=0.01)
    assert far.begins > far.now + 15 / 80, "these are not a campaign's alone"
    await stage.pool.execute("UPDATE rate_limits SET free_at = now() + '0.05 s', share = 0.7, slowed_at = now()")
    slowed = await reserve(stage, ahead_every=0.01)
    assert slowed.begins > slowed.now + 0.02


async def test_replies_that_go_ahead_keep_every_second_within_the_rate(stage: Stage) -> None:
    """As many replies as the reserve holds, each as early as it may be, beside a campaign that uses the rest."""
    pacer = Pacer()
    campaign = asyncio.create_task(reserve_for(stage.pool, wanted(stage, "bulk"), 3.0, at_once=16))
    replies = []
    for number in range(36):
        asked_at = time.monotonic()
        replies.append(await slot(pacer, stage, wanted(stage)))
        if number > 4:
            assert replies[-1] - asked_at < AHEAD + SLICE + 0.1
        await asyncio.sleep(max(0.0, asked_at + 1 / 13 - time.monotonic()))
    found = pace_of([*(await campaign).slots, *replies], 80.0)
    assert found.most <= 84, f"{found.most} in one second"


async def test_replies_beside_a_campaign_wait_for_no_more_than_what_it_has_reserved(stage: Stage) -> None:
    pacer = Pacer()
    campaign = asyncio.create_task(reserve_for(stage.pool, wanted(stage, "bulk"), 2.0, at_once=16))
    waits = []
    for _ in range(20):
        await asyncio.sleep(0.08)
        asked_at = time.monotonic()
        waits.append(await slot(pacer, stage, wanted(stage)) - asked_at)
    noted = await campaign
    assert sorted(waits)[10] < AHEAD + SLICE + 0.05
    assert pace_of(noted.slots, 64.0).used > 0.8, "replies use what the campaign leaves"


# -- refusals ----------------------------------------------------------------------------------------------------------

STANDINGS = [
    (slowed, NOW + timedelta(seconds=after))
    for slowed in (None, Slowed(0.7, NOW), Slowed(0.5, NOW), Slowed(0.06, NOW), Slowed(0.05, NOW), Slowed(1.0, NOW))
    for after in (-30.0, -0.5, 0.0, 0.5, 0.999, 1.0, 9.999, 10.0, 15.0, 29.5, 30.0, 59.0, 60.0, 200.0, 1e6)
]


async def test_the_database_computes_the_share_as_the_rule_says(stage: Stage) -> None:
    statement = f"""
        SELECT ({rate_limits.SHARE})::float8 AS share, ({rate_limits.REPLY_SHARE})::float8 AS of_replies,
            ({rate_limits.REFUSED_SHARE})::float8 AS refused,
            ({rate_limits.REFUSED_AT}) AS refused_at
        FROM unnest($1::float8[], $2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS r (share, slowed_at, now, n),
            LATERAL (SELECT r.now) AS p (now) ORDER BY n
    """
    rows = await stage.rows(
        statement,
        [1.0 if slowed is None else slowed.share for slowed, _ in STANDINGS],
        [None if slowed is None else slowed.at for slowed, _ in STANDINGS],
        [now for _, now in STANDINGS],
    )
    for (slowed, now), row in zip(STANDINGS, rows, strict=True):
        stands = pace.refused(slowed, now)
        assert row["share"] == pytest.approx(pace.share(slowed, now)), (slowed, now)
        assert row["of_replies"] == pytest.approx(pace.reply_share(slowed, now)), (slowed, now)
        assert row["refused"] == pytest.approx(stands.share), (slowed, now)
        assert row["refused_at"] == stands.at, (slowed, now)


@pytest.mark.parametrize(("lane", "twice"), [("normal", 0.7), ("bulk", 0.49)])
async def test_a_channel_that_is_refused_waits_and_is_slower_from_then_on(
    stage: Stage, lane: Lane, twice: float
) -> None:
    key = (stage.ours.tenant_id, stage.ours.id)
    assert await rate_limits.slowed(stage.pool, *key) is None
    async with stage.pool.acquire() as connection:
        for _ in range(30):  # calls that were in flight together
            await rate_limits.slow(connection, *key, timedelta(seconds=1))
    slowed = await rate_limits.slowed(stage.pool, *key)
    assert slowed is not None
    assert slowed.share == pytest.approx(0.7)
    found = await reserve(stage, lane, slots=1)
    assert 0.9 < found.begins - found.now <= 1
    assert found.spacing == pytest.approx(1 / (80 * 0.7))
    await stage.pool.execute("UPDATE rate_limits SET slowed_at = slowed_at - interval '2 seconds'")
    async with stage.pool.acquire() as connection:
        await rate_limits.slow(connection, *key, timedelta(0))
    assert (await reserve(stage, lane)).spacing == pytest.approx(1 / (80 * twice))
    await stage.pool.execute("UPDATE rate_limits SET slowed_at = slowed_at - interval '1 hour'")
    assert (await reserve(stage, lane)).spacing == pytest.approx(1 / 80)


# -- what customers write ----------------------------------------------------------------------------------------------


def written(stage: Stage, messages: int) -> Inbound:
    return Inbound(stage.ours.tenant_id, stage.ours.id, messages, 80.0)


async def test_a_campaign_leaves_room_for_what_customers_write_and_a_reply_does_not_wait(stage: Stage) -> None:
    await reserve(stage, "bulk")
    free_at = await stage.value("SELECT free_at FROM rate_limits")
    bulk_free_at = await stage.value("SELECT bulk_free_at FROM rate_limits")
    await rate_limits.count_inbound(stage.pool, [written(stage, 40)])
    assert await stage.value("SELECT free_at FROM rate_limits") == free_at
    moved: timedelta = await stage.value("SELECT bulk_free_at FROM rate_limits") - bulk_free_at
    assert 0.5 <= moved.total_seconds() < 0.7
    for _ in range(10):
        await rate_limits.count_inbound(stage.pool, [written(stage, 1000)])
    assert await stage.value("SELECT bulk_free_at <= bulk_at + interval '2 seconds' FROM rate_limits")


async def test_where_no_campaign_sends_nothing_is_counted(stage: Stage) -> None:
    await rate_limits.count_inbound(stage.pool, [written(stage, 40)])
    assert await stage.count("rate_limits") == 0
    await reserve(stage)
    await rate_limits.count_inbound(stage.pool, [written(stage, 40)])
    assert await stage.value("SELECT bulk_free_at FROM rate_limits") is None
    await reserve(stage, "bulk")
    await stage.pool.execute("UPDATE rate_limits SET bulk_at = bulk_at - $1::interval", IN_USE)
    before = await stage.value("SELECT bulk_free_at FROM rate_limits")
    await rate_limits.count_inbound(stage.pool, [written(stage, 40)])
    assert await stage.value("SELECT bulk_free_at FROM rate_limits") == before


async def test_counting_waits_for_no_lock(stage: Stage) -> None:
    await reserve(stage, "bulk")
    async with stage.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM rate_limits FOR UPDATE")
        async with asyncio.timeout(1):
            await rate_limits.count_inbound(stage.pool, [written(stage, 40)])


async def bulk_free_at(stage: Stage) -> dict[UUID, datetime]:
    rows = await stage.rows("SELECT channel_id, bulk_free_at FROM rate_limits")
    return {row["channel_id"]: row["bulk_free_at"] for row in rows}


async def test_only_metas_limit_counts_what_customers_write(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    app = await add_app(stage)
    number = await add_number(stage, app, PHONE_NUMBER_ID)
    await worker.persist([posted(stage, app, entry(value(said())))], stage.context)  # no campaign: no row either
    for ours in (stage.ours, number):
        asked = Request(ours.tenant_id, ours.id, "bulk", 80.0, 0.2, ahead=2.0)
        assert (await rate_limits.reserve(stage.pool, asked)).slots == 1
    before = await bulk_free_at(stage)
    webhooks = [stage.said("hola"), posted(stage, app, entry(value(said(id="wamid.2"), said(id="wamid.3"))))]
    await worker.persist(webhooks, stage.context)
    after = await bulk_free_at(stage)
    assert after[stage.ours.id] == before[stage.ours.id]
    assert after[number.id] - before[number.id] >= timedelta(seconds=2 / 80)

    async def fail(*_: object) -> None:
        raise asyncpg.LockNotAvailableError("no")

    monkeypatch.setattr(rate_limits, "count_inbound", fail)
    await worker.persist([posted(stage, app, entry(value(said(id="wamid.4"))))], stage.context)
    assert await stage.count("messages WHERE direction = 'inbound'") == 5
