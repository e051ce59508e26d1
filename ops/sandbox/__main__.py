"""`python -m ops.sandbox`: the provider sandbox on 127.0.0.1, port from PORT (4010 where unset, 0 takes a free one).

Its SMTP server is on PALOMAR_SANDBOX_SMTP_PORT.
"""

import asyncio
import signal

import structlog
import uvloop

from ops.sandbox.app import make_app, serving
from shared.settings import settings

DEFAULT_PORT = 4010


async def run(port: int, smtp_port: int) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(make_app(smtp_port=smtp_port), port) as url:
        structlog.get_logger("sandbox").info("sandbox.listening", url=url)
        await stop.wait()


def main() -> None:
    given = settings().port
    port = DEFAULT_PORT if given is None else given
    try:
        uvloop.run(run(port, settings().sandbox_smtp_port))
    except OSError as error:
        raise SystemExit(
            f"the sandbox does not start: {error.strerror}; set PORT and PALOMAR_SANDBOX_SMTP_PORT to free ones"
        ) from None


if __name__ == "__main__":
    main()
