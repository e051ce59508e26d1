"""The API of a test, and the settings that it serves with."""

from collections.abc import AsyncIterator

import pytest_asyncio

from shared.settings import Settings
from tests.support.api import ApiStage, serving


@pytest_asyncio.fixture
async def api(settings: Settings) -> AsyncIterator[ApiStage]:
    async with serving(settings) as stage:
        yield stage
