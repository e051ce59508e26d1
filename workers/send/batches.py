"""What a process's sends ask of the database, done together for all that ask at about the same time.

One that fails, or that another session locks, is done alone and costs the others nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from shared.database import Pool
from shared.database.together import Apart, Together
from shared.queue.jobs import Lane
from shared.resilience.lock_waits import LockWaits
from shared.store.messages import send_batches, sends
from shared.store.messages.outbound_rows import Outbound
from shared.store.messages.send_batches import Claim, ClaimOutcome, LaneKey, SentMessage

AT_ONCE: Final = 100


class _OfOneLane:
    """The lanes are apart: what moves a campaign's message takes locks that its tenant's sessions may hold."""

    def __init__(self, pool: Pool, lease: timedelta) -> None:
        self._pool = pool
        self._lease = lease
        self.claim: Together[Claim, ClaimOutcome] = Together(self._claim, most=AT_ONCE)
        self.sent: Together[SentMessage, bool] = Together(self._sent, most=AT_ONCE)

    async def _claim(self, claims: Sequence[Claim]) -> list[ClaimOutcome | Apart]:
        return await send_batches.claim(self._pool, claims, self._lease)

    async def _sent(self, messages: Sequence[SentMessage]) -> list[bool | Apart]:
        return await send_batches.sent(self._pool, messages)


class Batches:
    """One of a process. `lease`: of a claim."""

    def __init__(self, pool: Pool, locks: LockWaits, lease: timedelta) -> None:
        self._pool, self._locks, self.lease = pool, locks, lease
        self._head: Together[LaneKey, Outbound | None] = Together(partial(send_batches.heads, pool), most=AT_ONCE)
        self._postpone: Together[tuple[UUID, UUID, timedelta], bool] = Together(
            partial(send_batches.postpone, pool), most=AT_ONCE
        )
        self._lanes: dict[Lane, _OfOneLane] = {"normal": _OfOneLane(pool, lease), "bulk": _OfOneLane(pool, lease)}

    async def head(self, lane: LaneKey) -> Outbound | None:
        """The first unfinished message of the lane; None where it is empty."""
        return await self._head(lane, partial(sends.head, self._pool, *lane))

    async def postpone(self, tenant_id: UUID, message_id: UUID, wait: timedelta) -> bool:
        """Make a ready message due after `wait`; it leaves before if its lane is sent. False: it is not ready."""
        alone = partial(sends.postpone, self._pool, tenant_id, message_id, wait, throttled=False)
        return await self._postpone((tenant_id, message_id, wait), alone)

    async def claim(self, claim: Claim) -> ClaimOutcome:
        """Claim the message, and commit that; it is lost, too, where its lane is in use."""

        async def alone() -> ClaimOutcome:
            claimed = await sends.claim(self._pool, claim.message, claim.channel, self.lease, claim.id)
            return "lost" if claimed is None else "claimed"

        if claim.message.tenant_id in self._locks:
            return await alone()
        return await self._lanes[claim.message.lane].claim(claim, alone)

    async def sent(self, message: SentMessage, alone: Callable[[], Awaitable[None]]) -> bool:
        """Record that a message is sent, or have `alone` do it; returns whether its lane may hold another message."""

        async def apart() -> bool:
            await alone()
            return True

        if message.message.tenant_id in self._locks:
            return await apart()
        return await self._lanes[message.message.lane].sent(message, apart)
