"""A webhook that is disabled: what happens is missed, what is replayed is sent, and it is enabled again."""

from datetime import timedelta

from shared.settings import Settings
from tests.support.webhook_receiver import OK, Answer
from tests.support.webhook_stage import WORKERS, Hook, Hooks, hooked


async def test_410_disables_at_once_and_what_follows_is_missed(settings: Settings) -> None:
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        hooks.receiver.answers("/shop", Answer(410), OK)
        await hooks.happen(1)
        await shop.until(failed=1)
        await hooks.happen(2, first=2)
        await shop.until(failed=1, missed=2)
        assert (await shop.health())["disabled_reason"] == "gone"
        assert len(shop.received()) == 1
        assert "webhook.disabled" in await shop.events()

        await replay(hooks, shop)
        await shop.until(delivered=3)
        assert shop.numbers()[0] == 1
        assert sorted(shop.numbers()[1:]) == [1, 2, 3]
        assert (await shop.health())["disabled_at"] is not None, "replays leave the health as it was"
        await hooks.happen(1, first=4)
        await shop.until(delivered=3, missed=1)

        await hooks.stage.pool.execute("UPDATE webhooks SET is_active = true WHERE id = $1", shop.id)
        await hooks.happen(1, first=5)
        await shop.until(delivered=4, missed=1)


async def test_what_waits_when_a_webhook_is_deleted_is_missed(settings: Settings) -> None:
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop", in_order=True)
        hooks.receiver.answers("/shop", Answer(500))
        talk = await hooks.stage.converse()
        await hooks.happen(3, conversation_id=talk)
        await shop.until(pending=1, waiting=2)
        await shop.rests()
        await hooks.stage.pool.execute("UPDATE webhooks SET deleted_at = now() WHERE id = $1", shop.id)
        await shop.elapse(timedelta(seconds=10))
        await shop.until(missed=3)


async def test_a_failed_replay_changes_nothing_but_the_log(settings: Settings) -> None:
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        hooks.receiver.answers("/shop", OK, Answer(500))
        await hooks.happen(1)
        await shop.until(delivered=1)
        before = await shop.health()
        await replay(hooks, shop)
        await hooks.receiver.wait("/shop", 2)
        await shop.rests()
        (row,) = await shop.log()
        assert (row["success"], row["status_code"], row["attempt_count"], row["replay_at"]) == (True, 500, 1, None)
        assert [attempt["kind"] for attempt in row["attempts"]] == ["delivery", "replay"]
        assert (await shop.health())["failures"] == before["failures"] == 0
        first, second = shop.received()
        assert first.id == second.id


async def test_many_replays_of_a_url_that_is_down_wait_as_probes_do(settings: Settings) -> None:
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        await hooks.happen(40)
        await shop.until(delivered=40)
        await shop.rests()
        hooks.receiver.clear()
        hooks.receiver.answers("/shop", Answer(500))
        await replay(hooks, shop)
        await hooks.receiver.wait("/shop", 5)
        await shop.rests()
        assert 5 <= len(shop.received()) <= 24
        assert await hooks.stage.count("webhook_logs WHERE replay_at IS NOT NULL") >= 16
        asked = len(shop.received())
        await hooks.stage.pool.execute(
            "UPDATE webhook_health SET due_at = now(), replay_open_until = now() WHERE webhook_id = $1", shop.id
        )
        await hooks.receiver.wait("/shop", asked + 1)
        await shop.rests()
        assert len(shop.received()) == asked + 1
        hooks.receiver.answers("/shop", OK)
        await hooks.stage.pool.execute(
            "UPDATE webhook_health SET due_at = now(), replay_open_until = now() WHERE webhook_id = $1", shop.id
        )
        await hooks.stage.until(hooks.stage.count, "webhook_logs WHERE replay_at IS NOT NULL", equals=0)


async def replay(hooks: Hooks, hook: Hook) -> None:
    """Want all deliveries of a webhook again, as the API does."""
    await hooks.stage.pool.execute(
        "UPDATE webhook_logs SET replay_at = now(), replay_kind = 'replay' WHERE webhook_id = $1", hook.id
    )
    await hooks.stage.pool.execute("UPDATE webhook_health SET due_at = now() WHERE webhook_id = $1", hook.id)
