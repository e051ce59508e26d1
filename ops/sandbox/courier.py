"""Carries the sandbox's webhooks: signed bodies POSTed to loopback, soon or later, by a bounded number of workers.

Timeouts and, where nothing else is said, retries are Twilio's (docs/usage/webhooks/webhooks-connection-overrides):
15 s in all, one retry on connect failure only; a fragment such as `#rc=5&rp=all` in the URL asks for up to five on
other failures too.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import parse_qs

import structlog
from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from yarl import URL

TOTAL = 15.0  # seconds, every retry included
MOST_RETRIES = 5
FIRST_PAUSE = 0.1  # seconds, doubled each time; Twilio does not document its own

Job = Callable[[], Awaitable[None]]
log = structlog.get_logger("sandbox.courier")


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of one webhook. `status` is None where no answer came; `error` then says why. Times are seconds."""

    status: int | None
    body: str
    attempts: int
    elapsed: float
    error: str | None = None

    def view(self) -> dict[str, object]:
        return {
            "status": self.status,
            "elapsed_ms": round(self.elapsed * 1000, 3),
            "answer": self.body,
            "attempts": self.attempts,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and on which failures: ct (connect), rt (no answer), 4xx, 5xx, or all."""

    retries: int = 1
    on: frozenset[str] = frozenset({"ct"})

    @classmethod
    def of(cls, url: str) -> "RetryPolicy":
        """What the URL's fragment asks for; what it leaves out or writes wrongly is the default."""
        asked = parse_qs(url.partition("#")[2])
        count = asked.get("rc", ["1"])[-1]
        retries = min(int(count), MOST_RETRIES) if count.isascii() and count.isdigit() else 1
        kinds = frozenset(",".join(asked.get("rp", ["ct"])).split(","))
        return cls(retries, kinds)

    def again(self, failure: str, attempts: int) -> bool:
        return attempts <= self.retries and ("all" in self.on or failure in self.on)


def address_problem(url: str) -> str | None:
    """Why the sandbox will not call this URL; None where it will. It looks no name up: only `localhost` is known."""
    try:
        parsed = URL(url, encoded=True)
        host = parsed.host or ""
        _ = parsed.port
    except ValueError:
        return "not a URL"
    if parsed.scheme not in ("http", "https") or not url.isascii() or not url.isprintable() or " " in url:
        return "not an http URL in printable ASCII"
    if "@" in parsed.raw_authority:
        return "the sandbox does not log in where it calls: leave the user out of the URL"
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return None if loopback else "the sandbox calls loopback addresses only: use 127.0.0.1, [::1] or localhost"


class Courier:
    """Made inside a running loop. `later` and `deliver` share one session; `close` forgets what is still to come."""

    def __init__(self, workers: int) -> None:
        self._session = ClientSession(
            connector=TCPConnector(limit=workers * 2), cookie_jar=DummyCookieJar(), timeout=ClientTimeout(total=TOTAL)
        )
        self._due: asyncio.Queue[Job] = asyncio.Queue()
        self._pending = 0
        self._workers = [asyncio.create_task(self._work()) for _ in range(workers)]

    @property
    def pending(self) -> int:
        """Jobs that are due later or in hand."""
        return self._pending

    def later(self, delay: float, job: Job) -> None:
        """Run `job` after `delay` seconds, as soon as a worker is free."""
        self._pending += 1
        asyncio.get_running_loop().call_later(delay, self._due.put_nowait, job)

    async def _work(self) -> None:
        while True:
            job = await self._due.get()
            try:
                await job()
            except Exception:
                log.exception("sandbox.receipt_failed")  # an error in one webhook does not stop the next ones
            finally:
                self._pending -= 1

    async def deliver(
        self, url: str, body: bytes, headers: Mapping[str, str], policy: RetryPolicy | None = None
    ) -> Delivery:
        """POST a body; a retry, as the policy (or else the URL) asks for it, is the same request again.

        Never raises for what the network does.
        """
        policy = policy or RetryPolicy.of(url)
        target = URL(url.partition("#")[0], encoded=True)
        started = time.monotonic()
        attempts = 0
        while True:
            attempts += 1
            left = TOTAL - (time.monotonic() - started)
            status, answer, failure, error = await self._attempt(target, body, headers, left)
            pause = FIRST_PAUSE * 2 ** (attempts - 1)
            if failure is None or not policy.again(failure, attempts) or left < pause:
                return Delivery(status, answer, attempts, time.monotonic() - started, error)
            await asyncio.sleep(pause)

    async def _attempt(
        self, url: URL, body: bytes, headers: Mapping[str, str], left: float
    ) -> tuple[int | None, str, str | None, str | None]:
        """One POST: HTTP status, answer, kind of failure (None: 2xx), and what to tell a person."""
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False, timeout=ClientTimeout(total=max(left, 0.1))
            ) as response:
                answer = (await response.read()).decode("utf-8", "replace")
        except ClientConnectorError as problem:
            return None, "", "ct", f"could not connect: {problem}"
        except TimeoutError:
            return None, "", "rt", f"no answer within {TOTAL:g} s"
        except ClientError as problem:
            return None, "", "rt", f"the connection was lost: {problem!r}"
        if response.status < 300:
            return response.status, answer, None, None
        return response.status, answer, f"{response.status // 100}xx", None

    async def close(self) -> None:
        """Stop: what is in hand is cancelled, and what is due later is not delivered."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._session.close()
