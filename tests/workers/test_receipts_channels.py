"""What a provider says after the send may concern a whole channel: then it waits, or stops with an alert."""

from datetime import timedelta
from uuid import UUID

import pytest

from shared.settings import Settings
from tests.support.stage import Stage, staged
from workers.persist import worker

SID = "SM" + "7" * 32


async def sent(stage: Stage, *, minutes_ago: int = 0) -> UUID:
    """A message of ours that left so long ago."""
    request = await stage.requested(await stage.converse(last_message_ago=timedelta(hours=1)), "hola")
    await stage.pool.execute(
        "UPDATE messages SET status = 'sent', external_id = $2, claimed_at = now() - $3::interval WHERE id = $1",
        request.message_id,
        SID,
        timedelta(minutes=minutes_ago),
    )
    return request.message_id


async def paused_for(stage: Stage) -> float:
    """Seconds until a message may be sent through the channel again."""
    waits = await stage.rows("SELECT extract(epoch FROM free_at - now())::float8 AS wait FROM rate_limits")
    return max((row["wait"] for row in waits), default=0.0)


async def test_a_channel_that_a_receipt_says_is_suspended_stops_with_an_alert(settings: Settings) -> None:
    async with staged(settings) as stage:
        message = await sent(stage)
        await worker.persist([stage.receipt(SID, "undelivered", error_code="30002")], stage.context)
        assert await stage.status(message) == "failed"
        channel = await stage.row("SELECT status, status_reason FROM channels")
        assert tuple(channel) == ("stopped", "30002: by receipt")
        assert await stage.count("events WHERE name = 'channel.stopped'") == 1


async def test_a_channel_that_sends_too_much_waits_and_what_failed_is_not_sent_again(settings: Settings) -> None:
    async with staged(settings) as stage:
        message = await sent(stage)
        await worker.persist([stage.receipt(SID, "failed", error_code="63018")], stage.context)
        assert await stage.status(message) == "failed"
        assert 50 < await paused_for(stage) <= 60
        assert await stage.value("SELECT share FROM rate_limits") == pytest.approx(0.7), "slower from then on"
        assert await stage.count("messages WHERE direction = 'outbound'") == 1
        assert await stage.value("SELECT status FROM channels") == "active"


@pytest.mark.parametrize("code", ["63013", "63049", "63024", "30003"])
async def test_what_concerns_the_message_alone_leaves_the_channel_alone(settings: Settings, code: str) -> None:
    async with staged(settings) as stage:
        message = await sent(stage)
        await worker.persist([stage.receipt(SID, "failed", error_code=code)], stage.context)
        assert await stage.status(message) == "failed"
        assert await stage.value("SELECT status FROM channels") == "active"
        assert await paused_for(stage) <= 0


@pytest.mark.parametrize("code", ["30002", "63018"])
async def test_late_news_of_a_channel_is_no_news(settings: Settings, code: str) -> None:
    async with staged(settings) as stage:
        message = await sent(stage, minutes_ago=30)
        await worker.persist([stage.receipt(SID, "failed", error_code=code)], stage.context)
        assert await stage.status(message) == "failed"
        assert await stage.value("SELECT status FROM channels") == "active"
        assert await paused_for(stage) <= 0
