"""Whatever process is killed, nothing acknowledged is lost and nothing is sent twice."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ops.local.stack import Stack
from shared.settings import Settings
from tests.faults import faults, providers, verdicts
from tests.faults.customers import Customers, channel_settings, writing
from tests.faults.staging import System, playing

pytestmark = pytest.mark.heavy

POISON = b"not an envelope"
SEED = 20260501  # of the customers' pauses, the copies' lateness and the moments of the kills


@asynccontextmanager
async def conversing(
    system: System, dice: random.Random, *, steady: int, chatty: int, poison: Sequence[bytes] = (),
    processes: Sequence[str] = faults.EVERYBODY,
) -> AsyncIterator[Customers]:  # fmt: skip
    """These processes work, and customers write; in the end the verdicts."""
    await faults.listen(system)
    await system.stage.sandbox.faults(*system.provider.faults)
    await system.start(*processes)
    async with writing(system, dice) as customers:
        customers.begin(steady=steady, chatty=chatty)
        yield customers
        await customers.end()
        print(await verdicts.everything(system, customers, faults.EVENTS, poison=poison))


# What a provider's own code may get wrong, a shorter run shows, in which the processes die that have such code; the
# suite has the long one with one provider. `palomar soak` has it with each, and kills each kind of process again after
# the outages.
FIRST, *OTHERS = providers.ALL


@pytest.mark.parametrize(
    ("provider", "again"),
    [
        pytest.param(FIRST, False, id=FIRST.name),
        *(pytest.param(one, True, id=f"{one.name} and again", marks=pytest.mark.soak) for one in providers.ALL),
    ],
)
@pytest.mark.timeout(420)
async def test_conversations_survive_the_death_of_each_worker_broker_and_database(
    stack: Stack, settings: Settings, tmp_path: Path, provider: providers.Provider, again: bool
) -> None:
    dice = random.Random(SEED)
    async with (
        playing(stack, settings, tmp_path, provider=provider, channel=channel_settings()) as system,
        conversing(system, dice, steady=20, chatty=8, poison=[POISON]) as customers,
    ):
        await customers.answered_more(20)
        await faults.poison(system, POISON)
        await faults.kill_each_kind(system, customers, dice)
        await faults.kill_broker(system, customers)
        await faults.crash_database(system, customers)
        if again:
            await faults.kill_each_kind(system, customers, dice)
        await faults.kill_senders(system, customers, dice, times=4 if again else 2)


@pytest.mark.parametrize("provider", OTHERS, ids=lambda one: one.name)
@pytest.mark.timeout(420)
async def test_conversations_survive_the_death_of_the_workers_that_know_the_provider(
    stack: Stack, settings: Settings, tmp_path: Path, provider: providers.Provider
) -> None:
    dice = random.Random(SEED)
    async with (
        playing(stack, settings, tmp_path, provider=provider, channel=channel_settings()) as system,
        conversing(system, dice, steady=12, chatty=4, processes=faults.FEW) as customers,
    ):
        await customers.answered_more(10)
        await faults.kill_each_kind(system, customers, dice, faults.WITH_PROVIDERS)
        await faults.kill_senders(system, customers, dice, times=1)
