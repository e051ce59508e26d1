"""A small DNS server on 127.0.0.1 over UDP, whose names answer at once, late or never."""

import asyncio
import ipaddress
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

A, AAAA = 1, 28  # record types, RFC 1035 and 3596
NO_SUCH_NAME = 3  # the answer's code, RFC 1035 §4.1.1


@dataclass(frozen=True, slots=True)
class Name:
    """What the server knows of a name. It answers `after` seconds after the first query, as one that asks others does;
    None: never."""

    addresses: tuple[str, ...] = ()
    after: float | None = 0.0


class NameServer(asyncio.DatagramProtocol):
    """Answers for its `names`; of others below `.example` it says that there are none. `asked` counts the queries."""

    def __init__(self) -> None:
        self.names: dict[str, Name] = {}
        self.asked: Counter[tuple[str, int]] = Counter()
        self._first: dict[tuple[str, int], float] = {}

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    @property
    def address(self) -> str:
        host, port = self._transport.get_extra_info("sockname")
        return f"{host}:{port}"

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        labels, at = [], 12
        while length := data[at]:
            labels.append(data[at + 1 : at + 1 + length].decode())
            at += 1 + length
        name, (kind,) = ".".join(labels), struct.unpack_from("!H", data, at + 1)
        self.asked[name, kind] += 1
        known = self.names.get(name)
        reply = _reply(data, data[12 : at + 5], known, kind)
        if known is None:
            self._transport.sendto(reply, addr)
        elif known.after is not None:
            now = time.monotonic()
            due = self._first.setdefault((name, kind), now) + known.after
            asyncio.get_running_loop().call_later(due - now, self._transport.sendto, reply, addr)


def _reply(query: bytes, question: bytes, name: Name | None, kind: int) -> bytes:
    found = [ipaddress.ip_address(address) for address in (name.addresses if name else ())]
    packed = [address.packed for address in found if {4: A, 6: AAAA}[address.version] == kind]
    flags = 0x8180 | (NO_SUCH_NAME if name is None else 0)
    header = query[:2] + struct.pack("!5H", flags, 1, len(packed), 0, 0)
    # Each record names its owner by a pointer to the question, byte 12.
    records = (struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(address)) + address for address in packed)
    return header + question + b"".join(records)


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", 0)
    )
    try:
        yield server
    finally:
        transport.close()
