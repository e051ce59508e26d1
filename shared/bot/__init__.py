"""What answers a customer. The worker knows `base` and `open_engines`; one module per engine."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from shared.bot.base import Engine
from shared.bot.llm import LlmEngine
from shared.bot.rules import RulesEngine
from shared.settings import Settings

# By the name a channel's settings give; `none` is not among them.
ENGINES: Final[Mapping[str, type[Engine]]] = {"rules": RulesEngine, "llm": LlmEngine}
WAITING: Final = tuple(name for name, engine in ENGINES.items() if engine.waits)


@asynccontextmanager
async def open_engines(settings: Settings) -> AsyncIterator[Mapping[str, Engine]]:
    """This process's engines by name. Closes them at the end.

    Costs nothing until an engine is used: the model's client, 30 MB of it, comes with the first question.
    """
    async with AsyncExitStack() as stack:
        opened: dict[str, Engine] = {}
        for name, engine in ENGINES.items():
            opened[name] = engine.of(settings)
            stack.push_async_callback(opened[name].close)
        yield opened
