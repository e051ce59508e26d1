"""What answers a customer. The worker knows `base` and `open_engines`; one module per engine."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from shared.engines.base import Engine
from shared.engines.llm import LlmEngine
from shared.engines.rules import RulesEngine
from shared.settings import Settings


@asynccontextmanager
async def open_engines(settings: Settings) -> AsyncIterator[Mapping[str, Engine]]:
    """This process's engines by the name a channel's settings give; `none` is not among them. Closes them at the end.

    Costs nothing until an engine is used: the model's client, 30 MB of it, comes with the first question.
    """
    engines: dict[str, Engine] = {"rules": RulesEngine(), "llm": LlmEngine(settings.llm_base_url, settings.llm_api_key)}
    async with AsyncExitStack() as stack:
        for engine in engines.values():
            stack.push_async_callback(engine.close)
        yield engines
