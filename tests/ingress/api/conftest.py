"""The API of a test, or of a whole module whose tests each have tenants of their own."""

import secrets
from base64 import b64encode
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ops.local.stack import Stack
from shared.queue import topology
from shared.queue.connection import connected
from shared.settings import Settings
from tests.support.api import ApiStage, serving
from tests.support.databases import cloned
from tests.support.sandbox_stage import playing
from tests.support.vhosts import Vhosts

NO_PROVIDER = "http://127.0.0.1:9"  # no one listens there, so that a test of a channel is answered at once


@pytest_asyncio.fixture
async def api(settings: Settings) -> AsyncIterator[ApiStage]:
    async with serving(settings) as stage:
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_api(
    stack: Stack, template: str, vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiStage]:
    """For modules whose tests run in the module's loop: `pytestmark = pytest.mark.asyncio(loop_scope="module")`."""
    vhost = vhosts.take()
    with cloned(stack.postgres, template) as database_url:
        async with playing() as sandbox:
            settings = Settings(
                _env_file=None,
                amqp_url=stack.rabbitmq.vhost_url(vhost),
                database_url=database_url,
                state_dir=tmp_path_factory.mktemp("api"),
                secret_keys=f"test:{b64encode(secrets.token_bytes(32)).decode()}",
                twilio_api_url=sandbox.base_url,
                meta_api_url=NO_PROVIDER,
            )
            # The API does so too, a moment after it serves; until then system.* says that the queues are not there.
            async with connected(settings.amqp_url.get_secret_value(), "test") as connection:
                await topology.declare_missing(connection, settings.retry_delays)
            async with serving(settings) as stage:
                yield stage
    vhosts.give_back(vhost)
