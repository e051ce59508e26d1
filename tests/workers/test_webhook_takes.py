"""What a turn reads to take a webhook's next deliveries."""

import json
from datetime import timedelta
from typing import Final

import asyncpg

from shared.settings import Settings
from shared.store.webhook_deliveries import turns
from tests.support.webhook_stage import hooked

WAITING: Final = 3000
_WAIT: Final = """
INSERT INTO webhook_logs (id, tenant_id, webhook_id, event, payload, created_at, due_at)
SELECT gen_random_uuid(), $1, $2, 'other', jsonb_build_object('text', repeat('x', 200)), now() - interval '1 day',
    now() - interval '1 day' + n * interval '1 ms' FROM generate_series(1, $3) AS n
"""


async def test_a_turn_reads_what_it_takes_however_many_wait(settings: Settings) -> None:
    async with hooked(settings) as hooks:
        shop, stage = await hooks.add("/shop"), hooks.stage
        await stage.pool.execute(_WAIT, shop.tenant_id, shop.id, WAITING)
        owner = await asyncpg.connect(settings.database_url.get_secret_value())
        try:
            await owner.execute("ANALYZE webhook_logs")
        finally:
            await owner.close()
        room = [shop.tenant_id], [shop.id], [4], [4]
        statement = f"EXPLAIN (FORMAT JSON) {turns._TAKE}"
        explained = await stage.pool.fetchval(statement, *room, timedelta(seconds=30), "2026")
        plan = (json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"]
        (due,) = [one for one in plan["Plans"] if one.get("Subplan Name") == "CTE due"]
        assert due["Plan Rows"] <= turns.MOST, "for more it would rather read the whole log"
        assert "Seq Scan" not in json.dumps(plan)

        taken = await turns.take(stage.pool, [turns.Room(shop.tenant_id, shop.id, 3, 1)], timedelta(seconds=30), "2026")
        assert len(taken[shop.tenant_id, shop.id]) == 3
        assert await stage.count("webhook_logs WHERE due_at > now()") == 3
