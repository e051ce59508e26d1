"""Whose address a request came from. No I/O."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address


class Sources:
    """Knows our own proxies, whose word counts for whom they pass on."""

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
        """The last one who is no proxy of ours; None where our proxy does not say whom it passes on.

        `forwarded_for` is X-Forwarded-For as it came: what stands left of the first stranger is a stranger's word.
        """
        if peer is None or not self._is_proxy(peer):
            return peer
        for address in reversed((forwarded_for or "").split(",")):
            address = address.strip()
            if address and not self._is_proxy(address):
                return address[:64]
        return None
