"""python -m workers NAME… | all: runs workers in one process until SIGTERM.

A name is a worker (`persist`: all its queues) or one queue of it (`persist.receipts`). Starting more of the process
whose queue is long is all there is to scaling. `all` is the whole of Palomar, with what `python -m ingress` serves.
"""

import asyncio
import errno
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence

import uvloop

from shared.process import log, memory
from shared.settings import Settings, SettingsInvalid, load
from workers._process import Process, chosen, declared

__all__ = ["Process", "chosen", "declared", "main"]

ALL = "all"
Run = Callable[[asyncio.Event], Awaitable[None]]


async def _until_signal(run: Run) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(stop)


def _prepared(settings: Settings, names: Sequence[str]) -> Run:
    """What runs these workers until its event is set. Raises ValueError for a wrong name or key."""
    if ALL not in names:
        return Process(settings, names).run
    from workers import _everything  # so that a worker alone needs none of ingress

    return _everything.prepared(settings)


def main(names: Sequence[str]) -> int:
    """Exit code 0 after an orderly stop, 1 for a port that is taken, 2 for a wrong name or setting."""
    try:
        chosen(names)
        settings = load()
        run = _prepared(settings, names)
    except (ValueError, SettingsInvalid) as error:
        print(f"python -m workers: {error}", file=sys.stderr)
        return 2
    log.configure(" ".join(names), settings.log_level)
    memory.return_large_blocks()
    try:
        uvloop.run(_until_signal(run))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        taken = f"port {settings.port} is taken; set PORT to another one, or unset it"
        if ALL in names:
            taken = f"{error}. Set PORT (webhooks), PALOMAR_API_PORT or PALOMAR_HEALTH_PORT to a free one"
        print(f"python -m workers: {taken}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
