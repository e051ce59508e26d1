"""Finds the address that a request came from, behind our own proxies. No I/O."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

_OF_ONE: Final = 64  # bits of an IPv6 address, behind which its holder chooses the rest freely


class Sources:
    """Our own proxies, whose X-Forwarded-For is trusted."""

    def __init__(self, proxies: Sequence[IPv4Network | IPv6Network]) -> None:
        @lru_cache(maxsize=1024)
        def is_proxy(address: str) -> bool:
            try:
                parsed = ip_address(address)
            except ValueError:
                return False
            return any(parsed in network for network in proxies)

        self._is_proxy = is_proxy

    def is_proxy(self, address: str | None) -> bool:
        """Whether this is the address of a proxy of ours; of an unknown one it is not."""
        return address is not None and self._is_proxy(address)

    def address(self, peer: str | None, forwarded_for: str | None) -> str | None:
        """The last address that is not a proxy of ours; None where our proxy names none.

        `forwarded_for` is the header X-Forwarded-For. Only its right end is trusted: a client can write the rest.
        """
        if peer is None or not self._is_proxy(peer):
            return peer
        for address in reversed((forwarded_for or "").split(",")):
            address = address.strip()
            if address and not self._is_proxy(address):
                return address[:64]
        return None


@lru_cache(maxsize=1024)
def network(address: str | None) -> str | None:
    """What of an address its holder can't change at will: all of an IPv4 address, half of an IPv6 address."""
    if address is None or ":" not in address:
        return address
    try:
        return str(ip_network(f"{address.partition('%')[0]}/{_OF_ONE}", strict=False))
    except ValueError:  # a proxy of ours wrote something else
        return address
