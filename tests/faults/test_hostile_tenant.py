"""What a hostile tenant does affects no other tenant."""

import random
from pathlib import Path

import pytest

from ops.local.stack import Stack
from shared.settings import Settings
from tests.faults import faults, verdicts
from tests.faults.customers import channel_settings, writing
from tests.faults.hostile import hostile_tenant
from tests.faults.staging import playing

pytestmark = pytest.mark.alone


@pytest.mark.timeout(300)
async def test_conversations_flow_while_one_tenant_does_its_worst(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    async with playing(stack, settings, tmp_path, channel=channel_settings()) as system:
        await faults.listen(system)
        await system.start("receive", "persist.1", "reply.1", "window.1", "window.2", "send.1", "relay.1", "clock.1")
        async with writing(system, random.Random(20260501)) as customers:
            customers.begin(steady=8, chatty=2)
            await customers.answered_more(8)
            print(await hostile_tenant(system, customers))
            await customers.end()
            print(await verdicts.everything(system, customers, faults.EVENTS))
