"""Resolves host names that tenants or customers supply: the host of a link, a mail server.

The system's resolver waits 5 s for each name server, twice, and can't be cancelled. So each of these lookups runs in a
thread of its own, never in the pool in which asyncio resolves the providers' names and writes files: a tenant whose
names hang would occupy the whole pool.
"""

import asyncio
import contextlib
import socket
import threading
from typing import Final, cast

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, SocketAddress]  # of getaddrinfo

AT_ONCE: Final = 128  # lookups of a process; 64 calls at once that time out after half the time leave so many threads

_free_lookups = threading.BoundedSemaphore(AT_ONCE)


async def look_up(host: str, port: int, family: int = socket.AF_UNSPEC) -> list[AddrInfo]:
    """The addresses of a name for a stream socket, as getaddrinfo returns them.

    Raises OSError where the name has none, or where AT_ONCE lookups are under way. A lookup that is cancelled leaves
    its thread behind, which ends with the resolver.
    """
    free_lookups = _free_lookups
    if not free_lookups.acquire(blocking=False):
        raise OSError("too many names are being looked up")
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[AddrInfo]] = loop.create_future()

    def finish(result: list[AddrInfo] | Exception) -> None:
        if found.done():
            return
        if isinstance(result, Exception):
            found.set_exception(result)
        else:
            found.set_result(result)

    def run() -> None:
        result: list[AddrInfo] | Exception
        try:
            addresses = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            result = cast(list[AddrInfo], addresses)  # typeshed's tuple of bytes is of a Python without IPv6
        except Exception as error:
            result = error
        finally:
            free_lookups.release()
        with contextlib.suppress(RuntimeError):  # the loop is closed: no task waits for the result
            loop.call_soon_threadsafe(finish, result)

    try:
        threading.Thread(target=run, name="look up", daemon=True).start()  # a process that stops does not wait for it
    except RuntimeError as error:  # the system has no more threads for us
        free_lookups.release()
        raise OSError(str(error)) from None
    return await found
