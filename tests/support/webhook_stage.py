"""A stage whose tenants have webhooks, and a receiver that plays their systems.

async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
    shop = await hooks.add("/shop")
    await hooks.happen(3)
    await shop.all_delivered(3)
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from shared.settings import Settings
from tests.support import webhooks
from tests.support.stage import Stage, staged
from tests.support.webhook_receiver import Received, Receiver, receiving

WORKERS: Final = ("webhook", "clock")
NO_NEWS: Final = ("webhook.created", "webhook.updated", "webhook.triggered")
SUMMARY: Final = """
SELECT CASE WHEN success THEN 'delivered' WHEN NOT success THEN 'failed' ELSE coalesce(held, 'pending') END AS state,
    count(*) AS deliveries
FROM webhook_logs WHERE webhook_id = $1 GROUP BY 1
"""


@dataclass(frozen=True)
class Hook:
    """A webhook, whose URL is `path` of the receiver."""

    stage: Stage
    receiver: Receiver
    tenant_id: UUID
    id: UUID
    path: str
    secret: str

    def received(self) -> list[Received]:
        return self.receiver.at(self.path)

    def numbers(self) -> list[int]:
        """The numbers of the events that came, in the order in which they did."""
        return [webhooks.number_of(one.json()) for one in self.received()]

    async def log(self) -> list[asyncpg.Record]:
        return await webhooks.deliveries(self.stage.pool, self.id)

    async def health(self) -> Mapping[str, Any]:
        found = await webhooks.health(self.stage.pool, self.id)
        assert found is not None, "an event has not been matched yet"
        return dict(found)

    async def states(self) -> dict[str, int]:
        """How many deliveries are in which state."""
        return {row["state"]: row["deliveries"] for row in await self.stage.rows(SUMMARY, self.id)}

    async def until(self, within: float = 60.0, **states: int) -> None:
        """Wait until so many deliveries are in these states, and none in another one."""
        await self.stage.until(self.states, equals=states, within=within)

    async def rests(self) -> None:
        """Wait until nothing of it is due."""
        await self.stage.until(webhooks.rests, self.stage.pool, self.id, equals=True, within=60.0)

    async def elapse(self, by: timedelta) -> None:
        """Wait until nothing is due, and let this time pass for it."""
        await self.rests()
        await webhooks.elapse(self.stage.pool, self.id, by)

    async def events(self) -> list[str]:
        """The names of what the operator was told of it, in order."""
        rows = await self.stage.rows(
            "SELECT name FROM events WHERE tenant_id = $1 AND detail->>'webhook_id' = $2 ORDER BY seq",
            *(self.tenant_id, str(self.id)),
        )
        return [row["name"] for row in rows if row["name"] not in NO_NEWS]


@dataclass(frozen=True)
class Hooks:
    """The stage and the receiver."""

    stage: Stage
    receiver: Receiver

    async def add(
        self, path: str, events: Sequence[str] = ("other",), *, tenant_id: UUID | None = None, **columns: object
    ) -> Hook:
        """A webhook for the events of `happen`, unless other ones are named."""
        tenant_id = tenant_id or self.stage.ours.tenant_id
        made = await webhooks.add(
            self.stage.pool, self.stage.settings, tenant_id, self.receiver.url(path), events, **columns
        )
        return Hook(self.stage, self.receiver, tenant_id, made.stored.id, path, made.secret)

    async def happen(self, count: int = 1, **more: Any) -> None:
        """Commit so many events of the stage's tenant: `webhooks.happen`."""
        await webhooks.happen(self.stage.pool, more.pop("tenant_id", self.stage.ours.tenant_id), count, **more)


@asynccontextmanager
async def hooked(settings: Settings, **others: Any) -> AsyncIterator[Hooks]:
    """A stage with a receiver; no worker runs yet."""
    async with receiving() as receiver, staged(settings, **{**webhooks.LOCAL, **others}) as stage:
        yield Hooks(stage, receiver)
