"""Whatever dies, nothing acknowledged is lost and nothing is sent twice."""

import random
from pathlib import Path

import pytest

from ops.stack import Stack
from shared.settings import Settings
from tests.faults import faults, providers, verdicts
from tests.faults.customers import channel_settings, writing
from tests.faults.staging import playing

pytestmark = pytest.mark.alone

POISON = b"not an envelope"
SEED = 20260501  # of the customers' pauses, the copies' lateness and the moments of the kills


# What a provider's own code may get wrong, a shorter run shows; the suite has the long one with one provider.
FIRST, *OTHERS = providers.ALL


@pytest.mark.parametrize(
    "provider", [FIRST, *(pytest.param(other, marks=pytest.mark.soak) for other in OTHERS)], ids=lambda one: one.name
)
@pytest.mark.timeout(420)
async def test_conversations_survive_the_death_of_each_worker_of_the_broker_and_of_the_database(
    stack: Stack, settings: Settings, tmp_path: Path, provider: providers.Provider
) -> None:
    dice = random.Random(SEED)
    async with playing(stack, settings, tmp_path, provider=provider, channel=channel_settings()) as system:
        await faults.listen(system)
        await system.stage.sandbox.faults(*provider.faults)
        await system.start(*faults.EVERYBODY)
        async with writing(system, dice) as customers:
            customers.begin(steady=20, chatty=8)
            await customers.answered_more(20)
            await faults.poison(system, POISON)
            await faults.kill_each_kind(system, customers, dice)
            await faults.kill_broker(system, customers)
            await faults.crash_database(system, customers)
            await faults.kill_each_kind(system, customers, dice)
            await faults.kill_senders(system, customers, dice, times=4)
            await customers.end()
            print(await verdicts.everything(system, customers, faults.EVENTS, poison=[POISON]))


@pytest.mark.parametrize("provider", OTHERS, ids=lambda one: one.name)
@pytest.mark.timeout(300)
async def test_conversations_survive_the_death_of_each_worker_at(
    stack: Stack, settings: Settings, tmp_path: Path, provider: providers.Provider
) -> None:
    dice = random.Random(SEED)
    async with playing(stack, settings, tmp_path, provider=provider, channel=channel_settings()) as system:
        await faults.listen(system)
        await system.stage.sandbox.faults(*provider.faults)
        await system.start(*faults.EVERYBODY)
        async with writing(system, dice) as customers:
            customers.begin(steady=12, chatty=4)
            await customers.answered_more(10)
            await faults.kill_each_kind(system, customers, dice)
            await faults.kill_senders(system, customers, dice, times=2)
            await customers.end()
            print(await verdicts.everything(system, customers, faults.EVENTS, poison=[]))
