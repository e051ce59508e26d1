"""Resolves host names that tenants or customers supply: the host of a link, a mail server.

The system's resolver keeps a thread for each name, up to 10 s, and can't be cancelled: a tenant whose names hang would
occupy the pool in which asyncio resolves the providers' names and writes files. aiodns asks the name servers of
/etc/resolv.conf itself, with one thread for all names. It reads /etc/hosts too; other sources of /etc/nsswitch.conf,
such as mDNS or LDAP, it does not know.
"""

import asyncio
import socket
from typing import Final

import aiodns
from aiodns import error as dns_error

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, SocketAddress]  # of getaddrinfo

AT_ONCE: Final = 128  # lookups that a process waits for
LONGEST: Final = 10.0  # seconds; the system's resolver waits as long for one name server: 5 s, twice
# c-ares, below aiodns, waits five times as long as the name server usually takes, and doubles that with each try; an
# answer to an earlier try is dropped. Its default of 3 tries ends after 1.5 s where the server usually answers at once:
# too early for a name that the server must first ask others for.
TRIES: Final = 6

_free_lookups = asyncio.Semaphore(AT_ONCE)
_resolver: aiodns.DNSResolver | None = None


async def look_up(host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[AddrInfo]:
    """The addresses of a name for a stream socket, as getaddrinfo returns them.

    Raises OSError where the name has none, where no name server answers within LONGEST, or where AT_ONCE lookups are
    under way; UnicodeError where it can't be a name. A lookup that is cancelled frees its place; c-ares goes on asking
    for its remaining tries, which costs a few packets and no thread.
    """
    name = host.encode("idna").decode()
    if not name:
        raise socket.gaierror(socket.EAI_NONAME, "the name is empty")
    if _free_lookups.locked():
        raise OSError("too many names are being looked up")
    try:
        async with _free_lookups, asyncio.timeout(LONGEST):
            found = await _resolver_of(asyncio.get_running_loop()).getaddrinfo(
                name, family, port, type=socket.SOCK_STREAM
            )
    except dns_error.DNSError as error:
        code, text = error.args
        unknown = code in (dns_error.ARES_ENOTFOUND, dns_error.ARES_ENODATA, dns_error.ARES_EBADNAME)
        raise socket.gaierror(socket.EAI_NONAME if unknown else socket.EAI_AGAIN, text) from None
    except TimeoutError:
        raise socket.gaierror(socket.EAI_AGAIN, f"no name server answers within {LONGEST:.0f} s") from None
    return [
        (node.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (node.addr[0].decode(), *node.addr[1:]))
        for node in found.nodes
    ]


def _resolver_of(loop: asyncio.AbstractEventLoop) -> aiodns.DNSResolver:
    """The resolver of this loop; a process has one loop, tests have several in turn."""
    global _resolver
    if _resolver is None or _resolver.loop is not loop:
        _resolver = aiodns.DNSResolver(loop=loop, tries=TRIES)
    return _resolver
