"""python -m ingress receive: receives webhooks until SIGTERM. python -m ingress api: serves the management API."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Sequence
from typing import Protocol

import uvloop

from shared.crypto import KeyRing, KeysInvalid
from shared.http.connections import raise_descriptor_limit
from shared.process import log, memory
from shared.settings import Settings, SettingsInvalid, load

RECEIVE, API = "receive", "api"
_PORTS = {
    RECEIVE: "PORT (webhooks) or PALOMAR_HEALTH_PORT (health and metrics)",
    API: "PALOMAR_API_PORT (clients) or PORT (health and metrics)",
}


class Serve(Protocol):
    """Serves until `stop` is set. Raises OSError where a port is taken."""

    def __call__(
        self, settings: Settings, keys: KeyRing, stop: asyncio.Event, *, share_port: bool = False
    ) -> Awaitable[None]: ...


def _imported(name: str) -> Serve:
    """What serves, imported alone: `receive` needs little of what the API has."""
    if name == API:
        from ingress.api.process import serve

        return serve
    from ingress.receive_process import receive

    return receive


async def _main(serve: Serve, settings: Settings, keys: KeyRing, share_port: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, keys, stop, share_port=share_port)


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 after an orderly stop, 2 where the arguments or settings can't work, 1 where the port is taken."""
    parser = argparse.ArgumentParser("python -m ingress", description=__doc__)
    parser.add_argument(
        "name", choices=[RECEIVE, API], help="receive: the providers' webhooks; api: the management API"
    )
    parser.add_argument("--share-port", action="store_true", help="several processes serve the same port")
    chosen = parser.parse_args(arguments)
    try:
        settings = load()
        log.configure(chosen.name, settings.log_level)
        keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    except (SettingsInvalid, KeysInvalid, ValueError) as error:
        print(f"python -m ingress: {error}", file=sys.stderr)
        return 2
    serve = _imported(chosen.name)
    raise_descriptor_limit()
    memory.return_large_blocks()
    memory.tune_collector()
    try:
        uvloop.run(_main(serve, settings, keys, chosen.share_port))
    except OSError as error:
        print(
            f"python -m ingress: {error}. Set {_PORTS[chosen.name]} to a free one, or start every process with "
            "--share-port.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
