"""Which URLs and addresses that others supply may be called (SSRF): the public network over https. No I/O.

The text of a URL says little: `problem` refuses what can be refused early. What counts is the address that is connected
to, which `allows` decides; ssrf_guard.py and egress.py ask it for each connection.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from yarl import URL

# In IPv6 only the range that IANA allocates as global unicast is public. Outside of it are all the forms that embed an
# IPv4 address: compatible, mapped, translated (::ffff:0:127.0.0.1, NAT64).
# https://www.iana.org/assignments/ipv6-address-space
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
# Not public, though Python 3.11 takes some of them for global; or tunnels (Teredo, 6to4). 168.63.129.16 is in a public
# range, and answers every virtual machine of Azure with what concerns that one alone.
_CLOSED: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
            "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
            "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
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


def is_address(host: str) -> bool:
    """Whether a URL's host is a literal address."""
    try:
        ipaddress.ip_address(host.rstrip(".").partition("%")[0])
    except ValueError:
        return False
    return True


def parsed(url: str) -> URL:
    """The URL as it will be called, without re-encoding it where possible. Raises ValueError where it is no URL."""
    found = URL(url, encoded=True) if _PLAIN.fullmatch(url) else URL(url)
    _ = found.port, found.explicit_port
    return found


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator allows to be called beside the public network over https."""

    trusted: tuple[str, ...] = ()  # origins such as http://127.0.0.1:4010, which nothing else is asked of
    http: bool = False
    ports: frozenset[int] = frozenset()  # empty: any
    networks: tuple[IPv4Network | IPv6Network, ...] = ()  # addresses of these may be called as public ones

    def problem(self, url: URL) -> str | None:
        """Why this URL must not be called; None where its text allows the call."""
        if url.scheme not in ("http", "https") or not url.host:
            return "an https URL is needed"
        if url.raw_user is not None or url.raw_password is not None:
            return "a URL with a user in it is not called"
        if self.trusts(url):
            return None
        if url.scheme != "https" and not self.http:
            return "https is needed"
        if self.ports and url.port not in self.ports:
            return f"port {url.port} is not called"
        return self._host_problem(url.host)

    def trusts(self, url: URL) -> bool:
        """Whether the operator exempts this URL's origin."""
        return str(url.origin()) in self.trusted

    def allows(self, address: str) -> bool:
        """Whether a connection to this address may be made."""
        if is_public(address):
            return True
        if not self.networks:
            return False
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.networks)

    def allowed(self, addresses: Iterable[str]) -> list[str]:
        """Those of a name's addresses that may be called. Raises ForbiddenAddressError where there is none."""
        found = [address for address in addresses if self.allows(address)]
        if not found:
            raise ForbiddenAddressError("the name leads to no address of the public network")
        return found

    def _host_problem(self, host: str) -> str | None:
        """Check a literal address; a name is checked when it is resolved.

        Other forms that C libraries read as an address are refused: `127.1`, `0x7f000001`, `2130706433`.
        """
        if is_address(host):
            return None if self.allows(host) else "the address is not of the public network"
        if _NUMERIC.fullmatch(host.rstrip(".").rpartition(".")[2]):
            return "a host that ends in a number must be an IP address in its usual form"
        return None
