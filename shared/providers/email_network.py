"""Connecting to an SMTP server that a tenant names: never into our own network, by whatever name."""

import asyncio
import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

# What Python 3.11 takes for public and is not: translated, tunnelled and compatible IPv4, and a relay's.
_NOT_PUBLIC: Final = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")))
_NOT_PUBLIC_4: Final = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4", "240.0.0.0/4")))


class PrivateAddressError(Exception):
    """The server's name leads into a private network; the text says what to do."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one that anybody on the Internet would reach."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    denied = _NOT_PUBLIC_4 if address.version == 4 else _NOT_PUBLIC
    return address.is_global and not address.is_multicast and not any(address in network for network in denied)


async def connected_socket(host: str, port: int, private_hosts: Collection[str], within: float) -> socket.socket:
    """A connection to the first address that takes one. The address that is looked at is the one that is called: a name
    that is asked twice may answer otherwise.

    Raises PrivateAddressError; OSError or TimeoutError where nobody answers within so many seconds.
    """
    loop = asyncio.get_running_loop()
    trusted = "*" in private_hosts or host.lower() in private_hosts
    async with asyncio.timeout(within):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        targets = [one for one in found if trusted or is_public(ip_address(str(one[4][0]).partition("%")[0]))]
        if found and not targets:
            raise PrivateAddressError(
                f"{host} is in a private network: name a public server, or have it put in PALOMAR_SMTP_PRIVATE_HOSTS"
            )
        trouble: OSError = OSError("the name has no address")
        for family, kind, protocol, _, address in targets[:4]:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                trouble = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise trouble
