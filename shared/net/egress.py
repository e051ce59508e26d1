"""Calls the URLs of tenants' own systems: one guarded POST, whose answer is read up to a bound, and never trusted.

Each connection goes to an address that was checked, and is reused for a minute at most. Behind a proxy, which has no
guard of its own, the name is resolved here: the proxy is asked for a way to the checked address, and TLS verifies the
name behind it. So a deployment can have one address towards the world, and its proxy is no way into its network.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Final, Literal, Self
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.connector import Connection
from aiohttp.payload import BytesPayload
from yarl import URL

from shared.net import ssrf_guard
from shared.net.address_rules import ForbiddenAddressError, Rules, is_address, parsed
from shared.net.deadlines import Deadline, Deadlines
from shared.net.kept_sessions import LONGEST_USE, KeptSessions, Sessions

KEPT: Final = 15.0  # seconds that a connection waits for its next call; many servers end it sooner
CONNECT_TIMEOUT: Final = 10.0  # seconds
KNOWN_URLS: Final = 4096  # whose text is not checked again
MOST_ADDRESSES: Final = 3  # of a name, that a proxy is asked for
_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "Palomar"}

Failure = Literal["timeout", "dns", "connect", "proxy", "tls", "not_allowed", "redirect", "gone", "status", "cut_off"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call."""

    error: Failure | None = None  # None: 2xx
    status: int | None = None  # where the answer came
    body: bytes = b""  # its beginning
    retry_after: str | None = None  # the header
    sent_again: float | None = None  # seconds into the call at which it was sent a second time; None: it was not


class Egress:
    """The way out of a process; `async with` opens and closes it.

    `timeout` is the total of a call in seconds, `most` how many bytes of an answer are read. `tls` replaces the
    system's certificates, `resolver` the one of shared/net/dns.py.
    """

    def __init__(
        self, rules: Rules, *, proxy: str | None = None, timeout: float = 15.0, most: int = 4096,
        longest_use: float = LONGEST_USE, tls: ssl.SSLContext | None = None, resolver: AbstractResolver | None = None,
    ) -> None:  # fmt: skip
        self._rules = rules
        self._proxy = proxy
        self._deadlines = Deadlines(timeout)
        self._most = most
        self._tls = tls or True
        self._resolver = ssrf_guard.guarded_resolver(rules, resolver)
        self._target = lru_cache(maxsize=KNOWN_URLS)(self._check)
        self._straight = KeptSessions(partial(self._open, None, resolver), longest_use)
        self._proxied = KeptSessions(partial(self._open, proxy, resolver), longest_use)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._straight.close()
        await self._proxied.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post, and read the beginning of the answer. What goes wrong outside is returned, not raised."""
        if (target := self._target(url)) is None:
            return Answer("not_allowed")
        kept = self._straight if target.is_straight else self._proxied
        call = _Call(target.url, body, headers, self._deadlines.one(), _Seen(asyncio.get_running_loop().time()))
        sessions = kept.enter(target.origin)
        try:
            with call.deadline:
                if target.is_straight:
                    answer = await self._post(sessions, call)
                else:
                    answer = await self._post_by_proxy(sessions, replace(call, options={"proxy": self._proxy}))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            answer = Answer(failure_of(error, by_proxy=kept is self._proxied))
        finally:
            kept.leave(sessions)
        seen = call.seen
        return answer if seen.again_at is None else replace(answer, sent_again=seen.again_at - seen.began)

    def _check(self, url: str) -> "_Target | None":
        """Where a URL leads, by its text; None where that forbids it. Each connection's address is checked, too."""
        try:
            found = parsed(url)
        except ValueError:
            return None
        if self._rules.problem(found) is not None:
            return None
        return _Target(found, str(found.origin()), self._proxy is None or self._rules.trusts(found))

    async def _post_by_proxy(self, sessions: Sessions, call: "_Call") -> Answer:
        """Post by a way through the proxy to an address that is checked here, IPv4 first.

        A name's addresses are asked for once in the life of the sessions: a kept connection has no newer one either.
        """
        name = call.url.raw_host or ""
        if is_address(name):
            return await self._post(sessions, call)
        if (addresses := sessions.addresses.get(name)) is None:
            found = await self._resolver.resolve(name, call.url.port or 0)
            addresses = sorted({one["host"] for one in found}, key=lambda address: (":" in address, address))
            sessions.addresses[name] = addresses = addresses[:MOST_ADDRESSES]
        failure: Exception = socket.gaierror(socket.EAI_NONAME, "the name has no address")
        for address in addresses:
            options = {**call.options, "server_hostname": name.rstrip(".")}
            try:
                return await self._post(sessions, replace(call, url=call.url.with_host(address), options=options))
            except aiohttp.ClientHttpProxyError as error:  # the next one may be reached
                failure = error
        sessions.addresses.pop(name, None)
        raise failure

    async def _post(self, sessions: Sessions, call: "_Call") -> Answer:
        """Post over a kept connection. Where its server had ended it meanwhile, post again over a new one.

        It may have read the request: RFC 9110, 9.2.2 lets a client that knows this to be harmless send it again.
        """
        call.seen.reused = False
        _seen.set(call.seen)
        try:
            return await self._answer(sessions.session(), call)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not call.seen.reused or isinstance(error, aiohttp.ClientConnectorError):
                raise
        call.seen.again_at = asyncio.get_running_loop().time()
        return await self._answer(sessions.session(reused=False), call)

    async def _answer(self, session: aiohttp.ClientSession, call: "_Call") -> Answer:
        answer: aiohttp.ClientResponse | None = None
        read = bytearray()
        try:
            answer = await session.post(
                call.url, data=BytesPayload(call.body), headers={**_HEADERS, **call.headers}, allow_redirects=False,
                ssl=self._tls, **call.options,
            )  # fmt: skip
            while len(read) <= self._most and not answer.content.at_eof():
                read += await answer.content.read(self._most + 1 - len(read))
        except (aiohttp.ClientError, OSError):
            if answer is None:
                raise  # else the status says what became of it, and is here
        except asyncio.CancelledError:
            if answer is None or not call.deadline.has_canceled:
                raise
        finally:
            if answer is not None:
                if answer.content.at_eof():
                    answer.release()
                else:
                    answer.close()
        assert answer is not None
        body = bytes(read[: self._most])
        return Answer(error_of(answer.status), answer.status, body, answer.headers.get("Retry-After"))

    def _open(
        self, proxy: str | None, resolver: AbstractResolver | None, reused: bool,
        sockets: Callable[[socket.socket], None],
    ) -> aiohttp.ClientSession:  # fmt: skip
        return aiohttp.ClientSession(
            connector=ssrf_guard.connector(
                self._rules, proxy=proxy, resolver=resolver, limit=0, kept=KEPT if reused else None, sockets=sockets
            ),
            request_class=_ToAddress,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )


@dataclass(slots=True)
class _Seen:
    """What became of a call's requests, until its answer came."""

    began: float  # time of the loop
    reused: bool = False  # the last one went over a connection that had been used before
    again_at: float | None = None  # time of the loop at which it was sent a second time


@dataclass(frozen=True, slots=True)
class _Target:
    url: URL
    origin: str
    is_straight: bool  # by no proxy


@dataclass(slots=True)
class _Call:
    url: URL
    body: bytes
    headers: Mapping[str, str]
    deadline: Deadline
    seen: _Seen
    options: Mapping[str, Any] = field(default_factory=dict)


_seen: ContextVar[_Seen] = ContextVar("_seen")
_used: WeakSet[object] = WeakSet()  # connections


class _ToAddress(aiohttp.ClientRequest):
    """A request that notes whether its connection is reused, and whose URL may have the address to connect to.

    Its `server_hostname` is the name then. The proxy sees the address alone: aiohttp tells it the Host that the request
    has before it is sent.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if conn.protocol in _used:
            _seen.get().reused = True
        else:
            _used.add(conn.protocol)
        if self.server_hostname is not None:
            port = "" if self.url.is_default_port() else f":{self.url.port}"
            self.headers["Host"] = f"{self.server_hostname}{port}"
        return await super().send(conn)


def error_of(status: int) -> Failure | None:
    """What an answer of this status means; None where the delivery is done."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return "redirect"
    return "gone" if status == 410 else "status"


def failure_of(error: Exception, *, by_proxy: bool = False) -> Failure:
    """Why a call had no answer. `proxy`: it is the operator's that can't be used, so the URL is not to blame."""
    match error:
        case TimeoutError():
            return "timeout"
        case ForbiddenAddressError():
            return "not_allowed"
        case aiohttp.ClientConnectorError(os_error=ForbiddenAddressError()):
            return "not_allowed"
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError(status=407):
            return "proxy"
        case aiohttp.ClientConnectorDNSError():
            return "proxy" if by_proxy else "dns"
        case socket.gaierror():
            return "dns"
        case aiohttp.ClientSSLError():
            return "tls"
        case aiohttp.ClientConnectorError() | aiohttp.ClientHttpProxyError():
            return "connect"
        case aiohttp.InvalidURL() | UnicodeError():
            return "not_allowed"
        case _:
            return "cut_off"
