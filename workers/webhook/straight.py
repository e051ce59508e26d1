"""Straight from matching to the POST: deliveries whose first attempt matching notes in the row that it writes.

Where this process holds the webhook, or nobody does, and has room for it, nothing has to be published, claimed, taken
and read again: the attempt is made as soon as matching has committed. All else is due as ever. A process that is killed
after the commit leaves what one leaves that is killed after taking: an attempt without an end, and a lease.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.queue.jobs import WebhookDue
from shared.queue.worker import Context
from shared.store.webhook_deliveries import turns
from shared.store.webhook_deliveries.facts import Key
from shared.store.webhook_deliveries.matching import NewDelivery, State
from shared.store.webhook_deliveries.turns import Attempt
from workers.webhook.desk import Desk
from workers.webhook.resources import Resources
from workers.webhook.turn import Delivering

UNDER_WAY: Final = 600  # attempts at which matching waits: as many keep a process busy, and their recording
BEGUN_AT_ONCE: Final = 16  # attempts in one round of the loop, in which matching waits for PostgreSQL's answers too
STALLED: Final = 0.2  # seconds without an end after which it waits no longer: these URLs are slow
AGAIN: Final = 1.0  # seconds until a turn that failed is tried again


@dataclass(slots=True)
class Noted:
    """What one transaction of matching has noted: to be begun after the commit, or dropped."""

    deliveries: list[tuple[Delivering, Sequence[NewDelivery]]] = field(default_factory=list)
    bodies: Mapping[UUID, bytes | None] = field(default_factory=dict)
    claimed: dict[Key, Delivering] = field(default_factory=dict)  # webhooks that nobody held
    renewed: list[Delivering] = field(default_factory=list)  # turns that go on


@dataclass(slots=True)
class _Wave:
    """Attempts under way that matching has begun."""

    left: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        self.left -= 1
        self.ended.set()


class Straight:
    """Of one process, which matches."""

    def __init__(self, ctx: Context[Resources]) -> None:
        self._ctx = ctx
        self._resources = ctx.resource
        self.lease = timedelta(seconds=ctx.settings.webhook_timeout + ctx.settings.webhook_lease)
        self._wave = _Wave()
        self._to_begin: deque[tuple[Delivering, Attempt, Callable[[], None]]] = deque()

    async def note(
        self,
        tx: Connection,
        deliveries: Sequence[NewDelivery],
        states: Mapping[Key, State],
        versions: Mapping[Key, datetime],
        noted: Noted,
    ) -> set[UUID]:
        """The ids of the deliveries that this process makes after the commit; `noted` gets them, too.

        `versions` says when each webhook was changed last. The webhooks' health must be locked. Whatever follows,
        `begin` or `drop` must be called with `noted`.
        """
        waiting: defaultdict[Key, list[NewDelivery]] = defaultdict(list)
        for one in deliveries:
            if one.held is None:
                waiting[one.tenant_id, one.webhook_id].append(one)
        await self._claim(tx, [key for key in waiting if self._is_free(key, states[key])], noted)
        await self._renew(tx, [key for key in waiting if states[key].is_ours], noted)
        taken: set[UUID] = set()
        for key, ours in waiting.items():
            turn = noted.claimed.get(key) or (self._resources.open.get(key) if states[key].is_ours else None)
            if turn is not None and states[key].is_well and (room := turn.room(versions[key])):
                turn.reserve(min(room, len(ours)))
                noted.deliveries.append((turn, ours[:room]))
                taken.update(one.id for one in ours[:room])
        return taken

    def begin(self, noted: Noted) -> None:
        """Make the attempts that are noted, now that they are committed."""
        for key, turn in noted.claimed.items():
            task = asyncio.create_task(self._run(key, turn))
            self._resources.straight.add(task)
            task.add_done_callback(self._resources.straight.discard)
        for turn in noted.renewed:
            turn.renew()
        if not self._to_begin:
            asyncio.get_running_loop().call_soon(self._begin_some)
        for turn, deliveries in noted.deliveries:
            self._wave.left += len(deliveries)
            attempts = (_attempt(one, noted.bodies[one.id]) for one in deliveries)
            self._to_begin.extend((turn, attempt, self._wave.end) for attempt in attempts)

    def _begin_some(self) -> None:
        for _ in range(min(BEGUN_AT_ONCE, len(self._to_begin))):
            turn, attempt, ended = self._to_begin.popleft()
            turn.hand(attempt, ended)
        if self._to_begin:
            asyncio.get_running_loop().call_soon(self._begin_some)

    def look(self, webhooks: Iterable[Key]) -> None:
        """Tell the turns under way of these webhooks that more of them is due."""
        for key in webhooks:
            if (turn := self._resources.open.get(key)) is not None:
                turn.look()

    async def drop(self, noted: Noted) -> None:
        """Nothing of it was committed."""
        for turn, deliveries in noted.deliveries:
            turn.give_back(len(deliveries))
        await self._close(noted.claimed)

    async def wait(self) -> None:
        """Wait while this process has its hands full, so that matching does not note more than it can make.

        Not for URLs that are slow: where no attempt ends for a while, those under way count no more.
        """
        while self._wave.left > UNDER_WAY:
            self._wave.ended.clear()
            try:
                async with asyncio.timeout(STALLED):
                    await self._wave.ended.wait()
            except TimeoutError:
                self._wave = _Wave()

    def _is_free(self, key: Key, state: State) -> bool:
        """Whether matching may hold the webhook: nobody does, all is well, and nothing else of it is due."""
        return (
            not state.is_held
            and state.is_well
            and state.rests
            and key not in self._resources.held
            and self._resources.places.free_for(key[0], proven=self._resources.paces.of(key, 0).is_proven) > 0
        )

    async def _claim(self, tx: Connection, keys: Sequence[Key], noted: Noted) -> None:
        if not keys:
            return
        desk = self._resources.desk = self._resources.desk or Desk(self._ctx)
        for key in keys:
            self._resources.held[key] = False
        claimed: Mapping[Key, turns.Turn] = {}
        try:
            claimed = await turns.claim(tx, keys, self._resources.holder, self.lease)
        finally:
            await self._close([key for key in keys if key not in claimed])
        for key, turn in claimed.items():
            opened = Delivering(turn, desk, self._ctx, is_of_matching=True)
            noted.claimed[key] = self._resources.open[key] = opened

    async def _renew(self, tx: Connection, keys: Sequence[Key], noted: Noted) -> None:
        """Hold on to webhooks whose turns would end soon: while events come, their deliveries go straight."""
        ours = {key: turn for key in keys if (turn := self._resources.open.get(key)) is not None and turn.ends_soon}
        if ours:
            renewed = await turns.claim(tx, ours, self._resources.holder, self.lease)
            noted.renewed += [ours[key] for key in renewed]

    async def _run(self, key: Key, turn: Delivering) -> None:
        try:
            await turn.run()
        except Exception as error:
            self._ctx.log.warning("turn failed; it is tried again", webhook=str(key[1]), error=type(error).__name__)
            await asyncio.sleep(AGAIN)
            self._resources.held[key] = True
        finally:
            await self._close([key])

    async def _close(self, keys: Iterable[Key]) -> None:
        """Their turns are over; a job that came meanwhile comes again."""
        again = []
        for key in keys:
            self._resources.open.pop(key, None)
            if self._resources.held.pop(key, False):
                again.append(WebhookDue(tenant_id=key[0], webhook_id=key[1]))
        if again:
            await self._ctx.publish(*again)


def _attempt(one: NewDelivery, body: bytes | None) -> Attempt:
    return Attempt(
        one.tenant_id,
        one.webhook_id,
        one.id,
        one.event,
        "delivery",
        number=1,
        body=body,
        attempts=0,
        created_at=one.created_at,
        was_delivered=False,
        conversation_id=one.conversation_id,
        sequence=one.sequence,
    )
