"""Meta says how many people a portfolio may write to: the settings of its numbers follow, and no other tenant's."""

from typing import Any
from uuid import UUID

from shared.settings import Settings
from tests.support.meta_payloads import ACCOUNT, entry
from tests.support.meta_stage import add_app, add_number, posted
from tests.support.stage import Ours, Stage, staged
from workers.persist import worker

HERS, ALSO_HERS, HIS = "100000000000002", "100000000000003", "100000000000004"


async def receive(stage: Stage, app: UUID, limit: object, **more: Any) -> None:
    held = {"max_daily_conversations_per_business": limit}
    await worker.persist([posted(stage, app, entry(held, field="business_capability_update"), **more)], stage.context)


async def settings_of(stage: Stage, ours: Ours) -> Any:
    return await stage.value("SELECT settings -> 'meta' FROM channels WHERE id = $1", ours.id)


async def test_the_numbers_of_the_account_follow_and_no_others(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        hers = await add_number(stage, app, HERS, account=ACCOUNT)
        also_hers = await add_number(stage, app, ALSO_HERS, account=ACCOUNT)
        his = await add_number(stage, app, HIS, account="900000000000001")
        await stage.pool.execute(
            """UPDATE channels SET settings = settings || '{"meta": {"portfolio": "Ours"}}' WHERE id = $1""", hers.id
        )
        await receive(stage, app, "TIER_2K")
        assert await settings_of(stage, hers) == {"portfolio": "Ours", "messaging_limit": 2_000}
        assert await settings_of(stage, also_hers) == {"messaging_limit": 2_000}
        assert await settings_of(stage, his) is None
        await receive(stage, app, 2_000)  # as Meta says it a second time
        assert await stage.count("events WHERE name = 'channel.updated'") == 2
        await receive(stage, app, "TIER_UNLIMITED")
        assert await settings_of(stage, hers) == {"portfolio": "Ours", "messaging_limit": None}
        await receive(stage, app, 250, replayed=True)
        assert await settings_of(stage, hers) == {"portfolio": "Ours", "messaging_limit": None}


async def test_a_number_without_a_limit_stays_as_it_is_where_there_is_none(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        hers = await add_number(stage, app, HERS, account=ACCOUNT)
        await receive(stage, app, -1)
        assert await settings_of(stage, hers) is None
        assert await stage.count("events WHERE name = 'channel.updated'") == 0
