"""Guards outbound calls to URLs that others supply (SSRF): only the public network over https, nothing of our own.

A link in a message, a tenant's webhook or a mail host may lead into the network that Palomar runs in, by its literal
address or by what its name resolves to at the moment of the call. So each connection's own address is checked, and no
name is resolved a second time after the check. `problem` and `is_public` do no I/O; `connector` applies the rule in
aiohttp.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from shared.net.dns import AddrInfo, look_up

# In IPv6 only the range that IANA allocates as global unicast is public. Outside of it are all the forms that embed an
# IPv4 address: compatible, mapped, translated (::ffff:0:127.0.0.1, NAT64).
# https://www.iana.org/assignments/ipv6-address-space
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
# Not public, though Python 3.11 takes some of them for global; or tunnels (Teredo, 6to4).
_CLOSED: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
            "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
            "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
        ),
    )
)  # fmt: skip
_NUMERIC: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\.?", re.I | re.A)
_PLAIN: Final = re.compile(r"[!-~]+", re.A)


class ForbiddenAddressError(OSError):
    """The address is not in the public network."""


def is_public(address: str) -> bool:
    """Whether an IP address, as the resolver writes it, is in the public network. False for other text."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return False
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found not in _GLOBAL_UNICAST:
            return False
    return found.is_global and not any(found in network for network in _CLOSED if network.version == found.version)


def public_of(addresses: Iterable[str]) -> list[str]:
    """The public ones of a name's addresses. Raises ForbiddenAddressError where there is none."""
    public = [address for address in addresses if is_public(address)]
    if not public:
        raise ForbiddenAddressError("the name leads to no address of the public network")
    return public


def parsed(url: str) -> URL:
    """The URL as it will be called, without re-encoding it where possible. Raises ValueError where it is no URL."""
    found = URL(url, encoded=True) if _PLAIN.fullmatch(url) else URL(url)
    _ = found.port, found.explicit_port
    return found


def problem(url: URL, trusted: Iterable[str] = ()) -> str | None:
    """Why this URL must not be called; None where its text allows the call.

    `trusted` are the origins (`http://127.0.0.1:4010`) that the operator exempts.
    """
    if url.scheme not in ("http", "https") or not url.host:
        return "an https URL is needed"
    if url.raw_user is not None or url.raw_password is not None:
        return "a URL with a user in it is not called"
    if str(url.origin()) in trusted:
        return None
    if url.scheme != "https":
        return "https is needed"
    return _host_problem(url.host)


def _host_problem(host: str) -> str | None:
    """Check a literal address; a name is checked when it is resolved.

    Other forms that C libraries read as an address are refused: `127.1`, `0x7f000001`, `2130706433`.
    """
    bare = host.rstrip(".")
    try:
        ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        if _NUMERIC.fullmatch(bare.rpartition(".")[2]):
            return "a host that ends in a number must be an IP address in its usual form"
        return None
    return None if is_public(host) else "the address is not of the public network"


# -- aiohttp -----------------------------------------------------------------------------------------------------------


class _Gate:
    """The addresses that one connector may connect to: public ones, and those of the trusted origins."""

    def __init__(self, trusted: Iterable[str]) -> None:
        urls = [URL(origin) for origin in trusted]
        self.names = {(url.host, url.port) for url in urls}
        # Literal addresses are never resolved; GuardedResolver adds the addresses of a trusted name.
        self.addresses: set[tuple[str, int]] = {(str(url.host), url.port or 0) for url in urls}

    def socket(self, info: AddrInfo) -> socket.socket:
        """Make the socket for a connection to an address. Raises ForbiddenAddressError."""
        family, kind, protocol, _, address = info
        if (address[0], address[1]) not in self.addresses and not is_public(address[0]):
            raise ForbiddenAddressError("the address is not of the public network")
        return socket.socket(family, kind, protocol)


class _BoundedResolver(AbstractResolver):
    """Resolves names within the bounds of shared/net/dns.py, so that one that hangs holds up no other."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=socket.AddressFamily(of),
                proto=protocol,
                flags=numeric,
            )
            for of, _, protocol, _, address in await look_up(host, port, family)
        ]

    async def close(self) -> None:
        """Nothing to close: the resolver is the process's."""


class GuardedResolver(AbstractResolver):
    """Resolves a name to its addresses that may be called. Raises ForbiddenAddressError where there is none."""

    def __init__(self, gate: _Gate, inner: AbstractResolver | None = None) -> None:
        self._gate = gate
        self._inner = inner or _BoundedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if (host, port) in self._gate.names:
            self._gate.addresses.update((result["host"], port) for result in found)
            return found
        public = set(public_of(result["host"] for result in found))
        return [result for result in found if result["host"] in public]

    async def close(self) -> None:
        await self._inner.close()


def connector(
    trusted: Iterable[str], *, proxy: str | None = None, resolver: AbstractResolver | None = None, limit: int = 100
) -> aiohttp.TCPConnector:
    """A connector that reaches only the public network and the trusted origins. Call it inside a running loop.

    The proxy may be reached too; only the proxy itself can check what it connects to. Connections are not reused and
    checks not cached: each call is checked anew, also where the resolver answers from its own cache. A refused call
    raises an aiohttp.ClientConnectorError whose `os_error` is a ForbiddenAddressError (see `is_forbidden`).
    """
    gate = _Gate((*trusted, proxy) if proxy else trusted)
    return aiohttp.TCPConnector(
        resolver=GuardedResolver(gate, resolver),
        socket_factory=gate.socket,
        use_dns_cache=False,
        force_close=True,
        limit=limit,
    )


def is_forbidden(error: BaseException) -> bool:
    """Whether a call failed because this module refused the address."""
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ForbiddenAddressError)
