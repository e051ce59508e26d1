"""Finds the address that a request came from, behind our own proxies. No I/O."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address


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
