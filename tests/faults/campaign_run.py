"""A campaign while everything is killed: who dies where, and what must hold at the end.

Each worker that works on the campaign is started so that it kills itself at one of its points, and started again for
the next point once it has. So every point is struck, however fast the machine is.
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.domain.campaigns.life import OVER
from shared.store.campaigns.records import Campaign
from tests.faults import verdicts
from tests.faults.staging import System
from tests.support import campaigns

# After each commit, before and after each publish, around each call of the provider: tests/support/dying.py has them.
POINTS: Final[Mapping[str, Sequence[str]]] = {
    "campaign": ("campaign step", "campaign stepped", "campaign page", "campaign turn", "published"),
    "send": ("claimed", "answered", "recorded", "looked", "resolved", "committing", "committed"),
}
# Points to which a worker comes seldom: it dies when it first does.
RARE: Final = frozenset(("looked", "resolved", "campaign turn"))
TAKEN: Final = frozenset(("sent", "delivered", "read", "replied", "opted_out"))  # who has had the message
TERMINAL: Final = TAKEN | {"failed", "skipped", "unknown", "canceled"}
LOOK_EVERY: Final = 0.5  # seconds, and as many for each 5,000 recipients, whose rows a look counts
Fault = Callable[[], Awaitable[str]]  # what it did, in words

_STUCK: Final = """
SELECT r.status AS recipient, m.status, m.attempts, m.error_code, m.due_at - now() AS due_in,
    m.not_before - now() AS not_before_in, m.created_at - now() AS made
FROM campaign_recipients r LEFT JOIN messages m ON m.tenant_id = r.tenant_id AND m.id = r.message_id
WHERE r.campaign_id = $1 AND r.status <> ALL($2::text[]) LIMIT 5
"""
_OUTCOMES: Final = """
SELECT r.id, r.status, r.reason, r.message_id, c.phone_number,
    r.status = 'unknown' OR r.status = 'failed' AND r.reason = 'unknown' AS is_unknown,
    coalesce(m.ids, '{}') AS messages
FROM campaign_recipients r JOIN contacts c ON c.tenant_id = r.tenant_id AND c.id = r.contact_id
LEFT JOIN (
    SELECT campaign_recipient_id, array_agg(id) AS ids FROM messages GROUP BY campaign_recipient_id
) AS m ON m.campaign_recipient_id = r.id
WHERE r.campaign_id = $1
"""


@dataclass
class Kills:
    """Who died where, how often."""

    dice: random.Random
    mean: Mapping[str, int]  # kind of worker → how often it comes to a point, on average, before it dies there
    for_ever: bool  # else a worker dies once at each point, and then lives
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    enough: asyncio.Event = field(default_factory=asyncio.Event)  # a worker has died at each point, or all is over

    def __post_init__(self) -> None:
        self._points = {
            kind: iter(itertools.cycle(points) if self.for_ever else points) for kind, points in POINTS.items()
        }

    def next_point(self, kind: str) -> str | None:
        """Where the next worker of this kind dies, `point:count`; None: it lives."""
        point = next(self._points[kind], None)
        if point is None or point in RARE:
            return point
        return f"{point}:{self.dice.randint(1, 2 * self.mean[kind] - 1)}"

    def strike(self, kind: str, point: str) -> None:
        self.struck[kind, point] += 1
        if not self.missing():
            self.enough.set()

    def missing(self) -> list[tuple[str, str]]:
        """The points at which no worker has died."""
        every = [(kind, point) for kind, points in POINTS.items() for point in points]
        return [one for one in every if not self.struck[one]]


async def die_in_turn(system: System, name: str, kills: Kills, is_over: Callable[[], bool]) -> None:
    """Start this worker again and again, each time to die at another point, until the campaign is over."""
    kind = name.partition(".")[0]
    while True:
        point = kills.next_point(kind)
        system.launch(name, dies_at=point)
        while not await system.died(name):
            if is_over():
                return
            await asyncio.sleep(0.05)
        assert point is not None, f"{name} was to live"
        kills.strike(kind, point.partition(":")[0])


async def watch(system: System, campaign: Campaign, count: int, faults: Mapping[float, Fault], within: float) -> float:
    """Look at the campaign until it is over, and let each fault happen once when this share of it is done; returns the
    seconds that it took.

    Raises AssertionError where the counters differ from the rows at any look.
    """
    started, waiting = time.monotonic(), dict(sorted(faults.items()))
    while True:
        await counters_are_right(system, campaign)
        found = await tally(system, campaign)
        done = sum(found[state] for state in TERMINAL) / count
        for share in [share for share in waiting if share <= done]:
            print(f"{done:.0%}: {await waiting.pop(share)()}", flush=True)
        status = str(await system.value("SELECT status FROM campaigns WHERE id = $1", campaign.id))
        assert status == "running" or status in OVER, f"the campaign is {status}"
        took = time.monotonic() - started
        if status in OVER:
            return took
        assert took < within, f"not over after {within:g} s: {dict(found)}; {await stuck(system, campaign)}"
        await asyncio.sleep(LOOK_EVERY * max(1, count / 5_000))


async def stuck(system: System, campaign: Campaign) -> list[str]:
    """A few of the recipients that are not terminal, with their messages."""
    return [str(dict(row)) for row in await system.rows(_STUCK, campaign.id, sorted(TERMINAL))]


async def tally(system: System, campaign: Campaign) -> Counter[str]:
    """How many recipients are in each state, by their rows."""
    return Counter({row["status"]: row["recipients"] for row in await system.rows(campaigns.TALLY, campaign.id)})


async def counters_are_right(system: System, campaign: Campaign) -> None:
    wrong = [dict(row) for row in await system.rows(campaigns.MISCOUNTED, campaign.id)]
    assert not wrong, f"counters that differ from the rows: {wrong}"


async def verdict(system: System, campaign: Campaign, count: int, *, drops: bool) -> str:
    """What must hold once the campaign is over; returns a line of figures. Raises AssertionError.

    `drops`: the provider has dropped connections, so that calls are left in doubt without a kill.
    """
    await verdicts.terminal(system)
    await counters_are_right(system, campaign)
    found = await tally(system, campaign)
    assert found.total() == count, f"{found.total()} recipients, not {count}"
    assert found.keys() <= TERMINAL, f"recipients that are not terminal: {dict(found)}"
    arrived = [one for one in await system.stage.sandbox.sends() if one.accepted]
    taken = Counter(_number(one.to) for one in arrived)
    twice = {to: times for to, times in taken.items() if times > 1}
    assert not twice, f"messaged more than once: {len(twice)}: {list(twice.items())[:10]}"
    rows = {row["phone_number"]: row for row in await system.rows(_OUTCOMES, campaign.id)}
    others = taken.keys() - rows.keys()
    assert not others, f"messaged, and no recipients: {sorted(others)[:10]}"
    untaken = [dict(row) for to, row in rows.items() if row["status"] in TAKEN and to not in taken]
    assert not untaken, f"not at the provider, and we say otherwise: {untaken[:10]}"
    unknown = [row for row in rows.values() if row["is_unknown"]]
    lost = [
        dict(row) for to, row in rows.items() if to in taken and row["status"] not in TAKEN and not row["is_unknown"]
    ]
    assert not lost, f"the provider took them, and we say otherwise: {lost[:10]}"
    dropped = verdicts.left_in_doubt(system, await system.stage.sandbox.messages()) if drops else set()
    doubtful = system.in_flight | dropped
    unexplained = [dict(row) for row in unknown if doubtful.isdisjoint(row["messages"])]
    assert not unexplained, f"unknown, though not in flight at any kill: {unexplained[:10]}"
    assert len(unknown) <= len(doubtful)
    steps = Counter(row["name"] for row in await system.rows(_STEPS, campaign.tenant_id))
    assert steps == {"campaign.running": 1, "campaign.completed": 1}, steps
    await verdicts.no_dead_letters(system)
    return (
        f"{count} recipients, {len(arrived)} accepted by the provider, none twice; {dict(found)}, "
        f"{len(unknown)} unknown of {len(system.in_flight)} calls in flight at kills and {len(dropped)} dropped ones"
    )


_STEPS: Final = """
SELECT name FROM events WHERE tenant_id = $1 AND name IN ('campaign.running', 'campaign.paused', 'campaign.completed',
    'campaign.canceled', 'campaign.failed')
"""


def _may_be_taken(row: Mapping[str, object]) -> bool:
    return row["status"] in TAKEN or bool(row["is_unknown"])


def _number(to: str) -> str:
    """The phone number of an address as a provider has it."""
    digits = to.rpartition(":")[2].removeprefix("+")
    return f"+{digits}"
