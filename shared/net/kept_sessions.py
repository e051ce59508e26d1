"""Sessions whose connections are reused for a minute at most, so that a call costs no handshake and no old address.

A connection's address was checked when it was made. A name may lead elsewhere later, so a connection serves no longer
than LONGEST_USE after it was made: sessions are replaced. There are several, each for a part of the hosts, which are
replaced in turn, so that the handshakes don't come all at once.
"""

import asyncio
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import aiohttp

LONGEST_USE: Final = 60.0  # seconds after it was made at which a connection begins its last call
SHARDS: Final = 8
MOST_RESTING: Final = 128  # connections of a shard that wait for their next call, where all shards have as many

OpenSession = Callable[[bool, Callable[[socket.socket], None]], aiohttp.ClientSession]
"""Opens a session: whether its connections are reused, and what is given each new socket."""


@dataclass(eq=False)
class Sessions:
    """A session that reuses its connections, and one that makes a new one for each call."""

    _open: OpenSession
    began: float  # time of the loop
    lasts: float
    calls: int = 0  # under way
    is_replaced: bool = False
    addresses: dict[str, list[str]] = field(default_factory=dict)  # checked ones by name, of calls through a proxy
    _opened: dict[bool, aiohttp.ClientSession] = field(default_factory=dict)
    _sockets: list[socket.socket] = field(default_factory=list)

    def session(self, reused: bool = True) -> aiohttp.ClientSession:
        if reused not in self._opened:
            self._opened[reused] = self._open(reused, self._sockets.append)
        return self._opened[reused]

    def is_over(self, now: float) -> bool:
        return now - self.began >= self.lasts

    @property
    def resting(self) -> int:
        """How many connections wait for their next call, at most."""
        return max(0, len(self._sockets) - self.calls)

    def forget_ended(self) -> None:
        self._sockets[:] = [one for one in self._sockets if one.fileno() != -1]

    async def close(self) -> None:
        for session in self._opened.values():
            await session.close()


class KeptSessions:
    """The sessions of a process, for one way out; `close` ends them."""

    def __init__(self, open_session: OpenSession, longest_use: float = LONGEST_USE, shards: int = SHARDS) -> None:
        self._open = open_session
        self._longest = longest_use
        self._shards: list[Sessions | None] = [None] * shards
        self._every: set[Sessions] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def enter(self, origin: str) -> Sessions:
        """The sessions for one call to this origin, which ends with `leave`."""
        shard = zlib.crc32(origin.encode()) % len(self._shards)
        found, now = self._shards[shard], asyncio.get_running_loop().time()
        if found is None or found.is_over(now) or self._is_crowded(found):
            before = found
            # The first ones end one after the other.
            lasts = self._longest * ((shard + 1) / len(self._shards) if before is None else 1.0)
            found = self._shards[shard] = Sessions(self._open, now, lasts)
            self._every.add(found)
            if before is not None:
                before.is_replaced = True
                self._close_unused(before)
        found.calls += 1
        return found

    def leave(self, sessions: Sessions) -> None:
        """A call has ended. Sessions that were replaced are closed with their last call."""
        sessions.calls -= 1
        if sessions.is_replaced:
            self._close_unused(sessions)

    def _is_crowded(self, one: Sessions) -> bool:
        """Whether more connections rest than may. One host's may be as many as others leave."""
        if one.resting <= MOST_RESTING or self._resting() <= MOST_RESTING * len(self._shards):
            return False
        for each in self._every:
            each.forget_ended()
        return one.resting > MOST_RESTING and self._resting() > MOST_RESTING * len(self._shards)

    def _resting(self) -> int:
        return sum(one.resting for one in self._every)

    async def close(self) -> None:
        """End all of them, also those with calls under way."""
        await asyncio.gather(*self._closing, *(one.close() for one in self._every))
        self._every.clear()

    def _close_unused(self, sessions: Sessions) -> None:
        if sessions.calls:
            return
        self._every.discard(sessions)
        task = asyncio.create_task(sessions.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
