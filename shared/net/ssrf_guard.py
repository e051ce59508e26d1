"""Guards outbound calls to URLs that others supply (SSRF): only the public network over https, nothing of our own.

A link in a message, a tenant's webhook or a mail host may lead into the network that Palomar runs in, by its literal
address or by what its name resolves to at the moment of the call. So each connection's own address is checked, and no
name is resolved a second time after the check. address_rules.py has the rule; `connector` applies it in aiohttp.
"""

import socket
from collections.abc import Callable, Iterable

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from shared.net.address_rules import ForbiddenAddressError, Rules
from shared.net.dns import AddrInfo, look_up


class _Gate:
    """The addresses that one connector may connect to: those that the rules allow, and those of trusted origins."""

    def __init__(self, rules: Rules, trusted: Iterable[str]) -> None:
        self.rules = rules
        urls = [URL(origin) for origin in trusted]
        self.names = {(url.host, url.port) for url in urls}
        # Literal addresses are never resolved; GuardedResolver adds the addresses of a trusted name.
        self.addresses: set[tuple[str, int]] = {(str(url.host), url.port or 0) for url in urls}

    def socket(self, info: AddrInfo) -> socket.socket:
        """Make the socket for a connection to an address. Raises ForbiddenAddressError."""
        family, kind, protocol, _, address = info
        if (address[0], address[1]) not in self.addresses and not self.rules.allows(address[0]):
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
        allowed = set(self._gate.rules.allowed(result["host"] for result in found))
        return [result for result in found if result["host"] in allowed]

    async def close(self) -> None:
        await self._inner.close()


def guarded_resolver(rules: Rules, inner: AbstractResolver | None = None) -> GuardedResolver:
    """Resolves names to addresses that the rules allow, for what connects to them itself."""
    return GuardedResolver(_Gate(rules, ()), inner)


def connector(
    rules: Rules,
    *,
    proxy: str | None = None,
    resolver: AbstractResolver | None = None,
    limit: int = 100,
    kept: float | None = None,
    sockets: Callable[[socket.socket], None] | None = None,
) -> aiohttp.TCPConnector:
    """A connector that reaches only what the rules allow. Call it inside a running loop.

    The proxy may be reached too; only the proxy itself can check what it connects to. Without `kept` connections are
    not reused, and each call is checked anew; with it they rest for so many seconds. Checks are not cached, also where
    the resolver answers from its own cache. `sockets` is given each new one. A refused call raises an
    aiohttp.ClientConnectorError whose `os_error` is a ForbiddenAddressError (see `is_forbidden`).
    """  # fmt: skip
    gate = _Gate(rules, (*rules.trusted, proxy) if proxy else rules.trusted)

    def new_socket(info: AddrInfo) -> socket.socket:
        made = gate.socket(info)
        if sockets is not None:
            sockets(made)
        return made

    resolver = GuardedResolver(gate, resolver)
    if kept is None:
        return aiohttp.TCPConnector(
            resolver=resolver, socket_factory=new_socket, use_dns_cache=False, force_close=True, limit=limit
        )
    return aiohttp.TCPConnector(
        resolver=resolver, socket_factory=new_socket, use_dns_cache=False, keepalive_timeout=kept, limit=limit
    )


def is_forbidden(error: BaseException) -> bool:
    """Whether a call failed because this module refused the address."""
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ForbiddenAddressError)
