"""An answer that PostgreSQL can't take: the attempt has no end in the log, and is made again when its lease is over."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from shared.settings import Settings
from tests.support.webhook_stage import WORKERS, Hook, hooked
from workers.webhook import desk

LEASES = {"webhook_timeout": 1.0, "webhook_lease": 1.0}


@asynccontextmanager
async def failing(settings: Settings, code: str) -> AsyncIterator[None]:
    """The end of no attempt can be written: PostgreSQL says why with this code."""
    owner = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        await owner.execute(
            f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE 'not written' USING ERRCODE = '{code}'; END $$;"
            "CREATE TRIGGER fail BEFORE UPDATE OF completed_at ON webhook_logs FOR EACH ROW EXECUTE FUNCTION fail()"
        )
        yield
        await owner.execute("DROP TRIGGER fail ON webhook_logs; DROP FUNCTION fail")
    finally:
        await owner.close()


async def tells_of_each(hook: Hook) -> None:
    """The log has each request, under the one id; only the last one has an end."""
    await hook.until(delivered=1)
    (row,) = await hook.log()
    received = hook.received()
    assert {one.id for one in received} == {str(row["id"])}
    assert len(row["attempts"]) == len(received)
    assert [one["ended_at"] is None for one in row["attempts"]] == [True] * (len(received) - 1) + [False]
    assert row["attempt_count"] == 1, "those without an end don't count"


async def test_while_the_disk_is_full_an_answer_waits_and_a_killed_process_leaves_the_attempt_without_an_end(
    settings: Settings,
) -> None:
    async with hooked(settings, **LEASES) as hooks:
        shop = await hooks.add("/shop")
        async with failing(settings, "53100"), hooks.stage.working("clock"), hooks.stage.running("webhook"):
            await hooks.happen(1)
            await hooks.receiver.wait("/shop", 1, within=20)
        async with hooks.stage.working(*WORKERS):
            await tells_of_each(shop)
        assert len(shop.received()) == 2


async def test_while_the_disk_is_full_an_answer_waits_for_room(settings: Settings) -> None:
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        async with failing(settings, "53100"):
            await hooks.happen(1)
            await hooks.receiver.wait("/shop", 1, within=20)
            (row,) = await shop.log()
            assert row["attempts"][0]["ended_at"] is None
        await tells_of_each(shop)
        assert len(shop.received()) == 1


async def test_an_error_of_the_database_leaves_the_attempt_without_an_end_and_it_is_made_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "TRIES_APART", 1)
    async with hooked(settings, **LEASES) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        async with failing(settings, "XX001"):
            await hooks.happen(1)
            await hooks.receiver.wait("/shop", 2, within=30)  # the second one when the lease of the first is over
        await tells_of_each(shop)
