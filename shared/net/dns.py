"""Looking up names that others gave: a link's host, a mail server.

The system's resolver waits 5 s for each name server, twice, and nothing ends it sooner. So such a lookup gets a thread
of its own, never one of those in which asyncio looks up the providers' names and writes files: a tenant whose names
hang would hold all of these.
"""

import asyncio
import contextlib
import socket
import threading
from typing import Final, cast

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, SocketAddress]  # as getaddrinfo tells

AT_ONCE: Final = 128  # of a process; twice what 64 calls at once leave behind that gave up after half the time

_places = threading.BoundedSemaphore(AT_ONCE)


async def look_up(host: str, port: int, family: int = socket.AF_UNSPEC) -> list[AddrInfo]:
    """The addresses of a name for a stream, as getaddrinfo tells them. Raises OSError where there are none, or where
    so many lookups hang that this one would be one too many. Cancelled, it leaves its thread behind."""
    places = _places
    if not places.acquire(blocking=False):
        raise OSError("too many names are being looked up")
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[AddrInfo]] = loop.create_future()

    def tell(told: list[AddrInfo] | Exception) -> None:
        if found.done():
            return
        if isinstance(told, Exception):
            found.set_exception(told)
        else:
            found.set_result(told)

    def run() -> None:
        told: list[AddrInfo] | Exception
        try:
            found_there = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            told = cast(list[AddrInfo], found_there)  # its tuple of bytes is of a Python without IPv6
        except Exception as error:
            told = error
        finally:
            places.release()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, told)

    try:
        threading.Thread(target=run, name="look up", daemon=True).start()  # a process that stops does not wait for it
    except RuntimeError as error:  # the system has no more threads for us
        places.release()
        raise OSError(str(error)) from None
    return await found
