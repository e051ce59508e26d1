"""What matching hands over is posted at once; what it may not hand over is due, and each bound holds as ever."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from shared.settings import Settings
from shared.store.webhook_deliveries import cursor, turns
from tests.support.webhook_receiver import OK, Answer
from tests.support.webhook_stage import WORKERS, hooked
from workers.webhook import turn


async def _never(*_: object) -> Any:
    await asyncio.Event().wait()


async def test_a_new_delivery_is_made_without_being_taken(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "take", _never)
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        for number in range(1, 4):
            await hooks.happen(1, first=number)
            await shop.until(delivered=number)
        assert sorted(shop.numbers()) == [1, 2, 3]
        assert [len(row["attempts"]) for row in await shop.log()] == [1, 1, 1]
        await shop.rests()
        assert (await shop.health())["due_at"] is None


async def test_a_webhook_is_held_while_its_events_come(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Webhooks that were claimed in one burst would be let go of together, in its midst."""
    monkeypatch.setattr(turn, "TURN_OF_MATCHING", 2.0)
    monkeypatch.setattr(turn, "LINGERS", 5.0)  # a slow machine may take longer for an event than it waits for one
    released = 0
    release = turns.release

    async def count(*arguments: Any, **options: Any) -> Any:
        nonlocal released
        released += 1
        return await release(*arguments, **options)

    monkeypatch.setattr(turns, "release", count)
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        until = asyncio.get_running_loop().time() + 7.0
        number = 0
        while asyncio.get_running_loop().time() < until:
            number += 1
            await hooks.happen(1, first=number)
            await shop.until(delivered=number)
        assert released <= 1  # 3 where no turn is renewed
        await shop.rests()
        assert released >= 1


OTHERS_HOLD = "holder = gen_random_uuid(), held_until = now() + interval '1 hour', due_at = now() + interval '1 hour'"


@pytest.mark.parametrize(
    "values",
    [
        OTHERS_HOLD,
        "due_at = now() + interval '1 second'",  # something of it is on its way to a worker
        "failures = 1, first_failed_at = now()",
        "open_until = now() + interval '1 hour'",
    ],
)
async def test_what_others_hold_or_fails_or_has_something_due_is_due_as_ever(
    settings: Settings, values: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "take", _never)
    async with hooked(settings) as hooks:
        shop = await hooks.add("/shop")
        await hooks.stage.pool.execute(
            "INSERT INTO webhook_health (tenant_id, webhook_id) VALUES ($1, $2)", shop.tenant_id, shop.id
        )
        await hooks.stage.pool.execute(f"UPDATE webhook_health SET {values} WHERE webhook_id = $1", shop.id)
        async with hooks.stage.working("webhook"):
            await hooks.happen(2)
            await shop.until(pending=2)
        assert [row["attempts"] for row in await shop.log()] == [[], []]
        assert await hooks.stage.count("webhook_logs WHERE due_at <= now()") == 2
        assert shop.received() == []


async def test_more_than_its_bound_is_never_under_way(settings: Settings) -> None:
    """The bound holds for what is handed over and what is taken together, also while more is matched."""
    under_way, most = 0, 0

    async def answered() -> None:
        nonlocal under_way
        await asyncio.sleep(0.02)
        under_way -= 1

    def decide(_: object) -> Answer:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        tasks.append(asyncio.create_task(answered()))
        return Answer(delay=0.025)

    tasks: list[asyncio.Task[None]] = []
    async with hooked(settings, webhook_concurrency=3) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        hooks.receiver.decides("/shop", decide)
        for number in range(1, 61, 6):
            await hooks.happen(6, first=number)
        await shop.until(delivered=60)
        await asyncio.gather(*tasks)
    assert 1 < most <= 3
    assert sorted(shop.numbers()) == list(range(1, 61))


async def test_what_fails_is_tried_again_when_it_is_due(settings: Settings) -> None:
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        hooks.receiver.answers("/shop", Answer(500), OK)
        await hooks.happen(2)
        await shop.until(delivered=1, pending=1)
        await shop.elapse(timedelta(seconds=10))
        await shop.until(delivered=2)
        assert sorted(len(row["attempts"]) for row in await shop.log()) == [1, 2]


async def test_an_ordered_conversation_stays_in_order(settings: Settings) -> None:
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop", in_order=True)
        hooks.receiver.answers("/shop", Answer(delay=0.01))
        talks: Sequence[Any] = [await hooks.stage.converse()]
        for number in range(1, 31, 3):
            await hooks.happen(3, first=number, conversation_id=talks[0])
        await shop.until(delivered=30)
        assert shop.numbers() == list(range(1, 31))


async def test_a_batch_whose_transaction_fails_leaves_no_room_taken(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are rolled back after their attempts were noted: nothing is posted for them, nor counted as under way."""
    move, failed = cursor.move, 0

    async def moves(*args: Any) -> bool:
        nonlocal failed
        failed += 1
        if failed <= 5:
            raise ValueError("it fails")
        return await move(*args)

    monkeypatch.setattr(cursor, "move", moves)
    async with hooked(settings, webhook_concurrency=2) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        await hooks.happen(4)
        await shop.until(delivered=4)
        assert sorted(shop.numbers()) == [1, 2, 3, 4]


async def test_a_new_url_counts_for_what_happens_after_it(settings: Settings) -> None:
    """A turn that waits for more of a webhook does not go on with the URL that this had when the turn began."""
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        await hooks.happen(1)
        await shop.until(delivered=1)
        url = hooks.receiver.url("/moved")
        await hooks.stage.pool.execute("UPDATE webhooks SET url = $2 WHERE id = $1", shop.id, url)
        await hooks.happen(2, first=2)
        await shop.until(delivered=3)
        assert [one.path for one in hooks.receiver.received] == ["/shop", "/moved", "/moved"]


async def test_what_was_matched_before_is_not_made_again(settings: Settings) -> None:
    """A cursor that is behind, as after another process took over, leads to deliveries that are there already."""
    async with hooked(settings) as hooks:
        shop = await hooks.add("/shop")
        place = await hooks.stage.row("SELECT xid::text, seq FROM webhook_cursor")
        async with hooks.stage.working(*WORKERS):
            await hooks.happen(2)
            await shop.until(delivered=2)
            await shop.rests()
        await hooks.stage.pool.execute("UPDATE webhook_cursor SET xid = $1::text::xid8, seq = $2", *place)
        async with hooks.stage.working(*WORKERS):
            await hooks.happen(1, first=3)
            await shop.until(delivered=3)
        assert sorted(shop.numbers()) == [1, 2, 3]
