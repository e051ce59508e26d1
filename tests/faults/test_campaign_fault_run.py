"""Whatever is killed while a campaign runs, each of its recipients is messaged once at most, and all are settled."""

import asyncio
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from ops.local.stack import Stack
from ops.soak import RECIPIENTS, SEED
from shared.actions import campaign_life
from shared.settings import Settings
from tests.faults import campaign_run
from tests.faults.campaign_run import Fault, Kills
from tests.faults.providers import META, TWILIO, Provider
from tests.faults.staging import System, playing
from tests.support import campaigns

pytestmark = pytest.mark.heavy

SEED_OF_THE_SUITE: Final = 20260612
VICTIMS: Final = ("campaign.1", "campaign.2", "send.1", "send.2", "send.3")
SLOW: Final = 10.0  # messages a second, until each point has had its death
FAST: Final = 1000.0
STILL: Final[Mapping[str, object]] = {"reply": {"engine": "none"}, "bulk_reserve": 0}


def wrong(provider: Provider, often: float) -> list[Mapping[str, object]]:
    """A provider that is slow enough to be called when a worker dies, and drops this share of the connections before,
    and as many after it took a message. No receipt tells of a message: the provider's list does, where it has one."""
    rules: Sequence[Mapping[str, object]] = (
        {"action": "no_receipts"},
        {"action": "accept_then_drop", "probability": often, "seed": 1},
        {"action": "drop_before", "probability": often, "seed": 2},
        {"action": "slow", "probability": 0.1, "seed": 3, "delay_ms": 100},
        {"action": "slow", "probability": 0.1, "seed": 4, "delay_ms": 100, "accepted_first": True},
    )
    return [{"provider": provider.name, **rule} for rule in rules]


@dataclass(frozen=True)
class Size:
    """How large a run is. `mean`: how often a worker comes to a point before it dies there, on average; `for_ever`: it
    does so again and again, else once at each."""

    recipients: int
    rate: float  # messages a second, at first
    mean: Mapping[str, int]
    for_ever: bool
    drops: float  # share of connections
    refusals: int  # of a storm, as too fast
    within: float  # seconds until the end
    leases: Mapping[str, object] = field(default_factory=dict)


async def killed(stack: Stack, settings: Settings, folder: Path, provider: Provider, size: Size, seed: object) -> str:
    """Run a campaign while its workers die at each of their points; returns the figures."""
    channel = {**STILL, "rate": size.rate}
    async with playing(stack, settings, folder, provider=provider, channel=channel, **size.leases) as system:
        stage, kills, over = system.stage, Kills(random.Random(str(seed)), size.mean, size.for_ever), asyncio.Event()
        await stage.sandbox.faults(*wrong(provider, size.drops))
        await campaigns.add_contacts(stage.pool, stage.ours.tenant_id, size.recipients)
        template = await campaigns.add_template(stage.pool, stage.ours)
        campaign = await campaigns.draft(
            stage.pool, stage.ours, message_template_id=template, variables={"1": "{{contact.name}}"}
        )
        await system.start("clock.1", "window.1")  # by the window goes what is sent anew
        await campaigns.step(stage, campaign, campaign_life.start)
        async with asyncio.TaskGroup() as dying:
            for name in VICTIMS:
                dying.create_task(campaign_run.die_in_turn(system, name, kills, over.is_set))
            if size.rate < FAST:
                dying.create_task(hurry(system, kills))
            took = await campaign_run.watch(
                system, campaign, size.recipients, outside(system, provider, size.refusals), size.within
            )
            over.set()
            kills.enough.set()
        await system.kill(*(name for name in VICTIMS if system.runs(name)))
        await system.start(*VICTIMS)
        figures = await campaign_run.verdict(system, campaign, size.recipients, drops=size.drops > 0)
        assert not kills.missing(), f"no worker died at {kills.missing()}; {figures}"
        deaths = ", ".join(f"{kind} {point} {count}" for (kind, point), count in sorted(kills.struck.items()))
        return f"{figures}; {kills.struck.total()} deaths: {deaths}; {took:.0f} s, {size.recipients / took:.0f}/s"


async def hurry(system: System, kills: Kills) -> None:
    """Once each point has had its death, let the campaign go on as fast as the machine can.

    What is unknown by then stays so: of a channel that was changed since, the provider's list proves nothing absent.
    """
    await kills.enough.wait()
    await system.stage.configure({**STILL, "rate": FAST})


def outside(system: System, provider: Provider, refusals: int) -> Mapping[float, Fault]:
    """What happens around the workers, each once this share of the recipients is done."""
    return {
        0.1: partial(storm, system, provider, refusals, 1),
        0.3: partial(broker, system),
        0.5: partial(database, system),
        0.7: partial(storm, system, provider, refusals, 2),
    }


async def storm(system: System, provider: Provider, refusals: int, seed: int) -> str:
    """The provider refuses many calls as too fast."""
    rule = {
        "provider": provider.name,
        "action": "429",
        "retry_after": 1,
        "probability": 0.5,
        "times": refusals,
        "seed": seed,
    }
    await system.stage.sandbox.faults(rule)
    return "too many requests"


async def broker(system: System) -> str:
    system.kill_broker()
    await system.start_broker()
    return "the broker was killed and started"


async def database(system: System) -> str:
    await system.stop_database()
    await system.start_database()
    return "the database crashed and recovered"


@pytest.mark.timeout(300)
async def test_each_recipient_is_messaged_once_wherever_a_worker_is_killed(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    leases = {"send_timeout": 3.0, "send_lease_margin": 2.0}
    mean = {"campaign": 2, "send": 4}
    size = Size(200, rate=SLOW, mean=mean, for_ever=False, drops=0.05, refusals=8, within=220, leases=leases)
    print(await killed(stack, settings, tmp_path, TWILIO, size, SEED_OF_THE_SUITE))


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("provider", [TWILIO, META], ids=lambda one: one.name)
async def test_a_large_campaign_messages_each_recipient_once_wherever_a_worker_is_killed(
    stack: Stack, settings: Settings, tmp_path: Path, provider: Provider
) -> None:
    count = int(os.environ[RECIPIENTS])
    mean = {"campaign": max(2, min(10, count // 1_000)), "send": max(4, min(300, count // 60))}
    # Time for a call on a machine that does much else: what is unknown shall come of a fault.
    leases = {"send_timeout": 8.0, "send_lease_margin": 4.0, "unknown_give_up_after": 120.0 if provider.asked else 20.0}
    size = Size(
        count, rate=FAST, mean=mean, for_ever=True, drops=0, refusals=60,
        within=600 + count / 20, leases=leases,
    )  # fmt: skip
    print(await killed(stack, settings, tmp_path, provider, size, os.environ[SEED]))
