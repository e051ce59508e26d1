"""The engines that answer customers: `open_engines` opens them by name, `base` is their interface."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from shared.bot.base import Engine
from shared.bot.llm import LlmEngine
from shared.bot.rules import RulesEngine
from shared.settings import Settings

# By their name in a channel's settings; `none` is not among them.
ENGINES: Final[Mapping[str, type[Engine]]] = {"rules": RulesEngine, "llm": LlmEngine}
WAITING: Final = tuple(name for name, engine in ENGINES.items() if engine.waits)


@asynccontextmanager
async def open_engines(settings: Settings) -> AsyncIterator[Mapping[str, Engine]]:
    """This process's engines by name; closes them at the end.

    Costs nothing until an engine is used: the model's client takes 30 MB and is loaded for the first answer.
    """
    async with AsyncExitStack() as stack:
        opened: dict[str, Engine] = {}
        for name, engine in ENGINES.items():
            opened[name] = engine.of(settings)
            stack.push_async_callback(opened[name].close)
        yield opened
