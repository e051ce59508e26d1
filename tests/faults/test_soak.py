"""What takes too long for every run of the suite: `palomar soak` runs these and says how long, and with which seed."""

import logging
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from ops.local.stack import Stack
from ops.soak import MINUTES, OUTAGE, SEED
from shared.settings import Settings
from tests.faults import faults, pressure, verdicts
from tests.faults.customers import channel_settings, writing
from tests.faults.staging import playing
from tests.faults.test_outages import database_outage
from tests.support.small_disk import SmallDisk, mounted

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

ROUND = 5  # faults, after which everything is looked at


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """That the broker is away is no news here: what is printed are the faults and the verdicts."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.reset_defaults()


async def test_faults_by_chance_lose_nothing_and_send_nothing_twice(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    dice = random.Random(os.environ[SEED])
    seconds = 60 * float(os.environ[MINUTES])
    with mounted(settings.state_dir / "spool", pressure.DISK) as disk:
        await _by_chance(stack, settings, tmp_path, dice, seconds, disk)


async def _by_chance(
    stack: Stack, settings: Settings, folder: Path, dice: random.Random, seconds: float, disk: SmallDisk | None
) -> None:
    """One round at least: one that was begun is finished, and `seconds` count from the first fault on."""
    async with playing(stack, settings, folder, channel=channel_settings()) as system:
        await faults.listen(system)
        await system.stage.sandbox.faults(*system.provider.faults)
        await system.start(*faults.EVERYBODY)
        async with writing(system, dice) as customers:
            ends = time.monotonic() + seconds
            while True:
                customers.begin(steady=12, chatty=4)
                for _ in range(ROUND):
                    print(await faults.by_chance(system, customers, dice), flush=True)
                print(await pressure.stalled_body(system, customers), flush=True)
                if disk is not None:
                    print(await pressure.disk_full(system, customers, disk), flush=True)
                await customers.end()
                print(await verdicts.everything(system, customers, faults.EVENTS), flush=True)
                if time.monotonic() >= ends:
                    break


async def test_a_long_outage_of_the_database_kills_nothing_and_loses_nothing(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    """Beyond half an hour RabbitMQ also takes back what was not acked (its consumer_timeout)."""
    seconds = 60 * float(os.environ[OUTAGE])
    if not seconds:
        pytest.skip("no outage was asked for")
    async with playing(stack, settings, tmp_path, channel=channel_settings()) as system:
        print(await database_outage(system, seconds))
