"""An event of a tenant reaches its webhooks: signed, once in the log, with each attempt."""

from datetime import timedelta
from typing import Final

from shared.settings import Settings
from tests.support.webhook_receiver import OK, Answer
from tests.support.webhook_stage import WORKERS, hooked

FAILURES: Final = "SELECT failures FROM webhook_health WHERE webhook_id = $1"


async def test_an_event_is_delivered_signed_and_logged(settings: Settings) -> None:
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        await hooks.happen(1)
        await shop.until(delivered=1)
        (received,) = shop.received()
        (row,) = await shop.log()
        assert received.is_signed(secret=shop.secret)
        assert received.id == str(row["id"])
        assert (row["success"], row["status_code"], row["response"], row["attempt_count"]) == (True, 200, "ok", 1)
        (attempt,) = row["attempts"]
        assert attempt["ended_at"] is not None
        assert (attempt["number"], attempt["kind"], attempt["status"], attempt["error"]) == (1, "delivery", 200, None)


async def test_what_failed_is_tried_again_under_the_same_id(settings: Settings) -> None:
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        hooks.receiver.answers("/shop", Answer(500), OK)
        await hooks.happen(1)
        await shop.elapse(timedelta(seconds=10))
        await shop.until(delivered=1)
        first, second = shop.received()
        assert first.id == second.id
        (row,) = await shop.log()
        assert [attempt["status"] for attempt in row["attempts"]] == [500, 200]
        assert row["attempt_count"] == 2


async def test_what_was_tried_while_a_webhook_was_down_comes_by_age_when_it_is_back(settings: Settings) -> None:
    async with hooked(settings, webhook_concurrency=1) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        hooks.receiver.answers("/shop", Answer(503))
        await hooks.happen(12)
        await hooks.stage.until(hooks.stage.value, FAILURES, shop.id, equals=5)
        tried = len(shop.received())
        await shop.rests()
        hooks.receiver.answers("/shop", OK)
        await shop.elapse(timedelta(hours=1))  # what was tried is due, too, later than what was not
        await shop.until(delivered=12)
        probe, *others = shop.numbers()[tried:]
        assert probe == 6
        assert others == sorted(others)
