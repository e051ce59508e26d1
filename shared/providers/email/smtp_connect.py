"""Connects to an SMTP server that a tenant names, and never to one in a private network."""

import asyncio
import socket
from collections.abc import Collection

from shared.net.address_rules import is_public
from shared.net.dns import look_up


class PrivateAddressError(Exception):
    """The server's name resolves to a private address. The text says what to do."""


async def connected_socket(host: str, port: int, private_hosts: Collection[str], within: float) -> socket.socket:
    """A connection to the first address that accepts one.

    The name is resolved once, and the checked address is the one connected to: a second look-up may give another
    address. Raises PrivateAddressError, and OSError or TimeoutError where no address answers within so many seconds.
    """
    loop = asyncio.get_running_loop()
    trusted = "*" in private_hosts or host.lower() in private_hosts
    async with asyncio.timeout(within):
        found = await look_up(host, port)
        targets = [one for one in found if trusted or is_public(str(one[4][0]))]
        if found and not targets:
            raise PrivateAddressError(
                f"{host} is in a private network: name a public server, or have it put in PALOMAR_SMTP_PRIVATE_HOSTS"
            )
        failure: OSError = OSError("the name has no address")
        for family, kind, protocol, _, address in targets[:4]:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure
