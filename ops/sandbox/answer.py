"""Answers a call, or spoils the answer by a fault; the same for every provider that the sandbox plays."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from ops.sandbox.faults import AcceptThenDrop, AnswerFault, DropBefore, Hang, Refusal, ServerError, Slow, TooMany
from ops.sandbox.record import Call, Outcome

STOPPING: web.AppKey[asyncio.Event] = web.AppKey("stopping", asyncio.Event)


class Refuse(Protocol):
    """A provider's way to say no: its error body for an HTTP status, with its own code where none is given."""

    def __call__(
        self, status: int, code: int | str | None = None, message: str = "", retry_after: int | None = None
    ) -> web.Response: ...


async def answer(
    request: web.Request, call: Call, fault: AnswerFault | None, *, accept: Callable[[], web.Response], refuse: Refuse
) -> web.Response:
    """Answer `call`, or do what `fault` says. `accept` takes the message and makes the normal answer."""
    match fault:
        case None:
            return _answered(call, accept())
        case TooMany():
            return refused(call, refuse(429, retry_after=fault.retry_after), 429)
        case ServerError():
            return refused(call, refuse(fault.status), fault.status)
        case Refusal():
            return refused(call, refuse(fault.status, fault.code, fault.message), fault.code)
        case AcceptThenDrop():
            return _dropped(request, accept())
        case DropBefore():
            return _dropped(request, _left(call, "dropped"))
        case Hang():
            _left(call, "hung")
            await _pause(request, fault.seconds)
            return _dropped(request, web.Response())
        case Slow(accepted_first=True):
            taken = accept()
            await _pause(request, fault.delay_ms / 1000)
            return _answered(call, taken)
        case Slow():
            await _pause(request, fault.delay_ms / 1000)
            return _answered(call, accept())


def refused(call: Call, response: web.Response, code: int | str) -> web.Response:
    """Record a refusal and hand its answer on."""
    call.outcome, call.code = "refused", str(code)
    return _answered(call, response)


def _answered(call: Call, response: web.Response) -> web.Response:
    call.answered = True
    return response


def _left(call: Call, outcome: Outcome) -> web.Response:
    call.outcome = outcome
    return web.Response()


def _dropped(request: web.Request, response: web.Response) -> web.Response:
    """Close the connection; what the handler then returns has nowhere to go and aiohttp lets it fall."""
    if request.transport is not None:
        request.transport.close()
    return response


async def _pause(request: web.Request, seconds: float) -> None:
    """Sleep, but not longer than the sandbox lives."""
    stopping = asyncio.ensure_future(request.app[STOPPING].wait())
    try:
        await asyncio.wait((stopping,), timeout=seconds)
    finally:
        stopping.cancel()
