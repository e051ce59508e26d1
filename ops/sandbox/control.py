"""The sandbox's control API, the same for every provider: what was taken, waiting for it, and the faults."""

from collections.abc import Callable, Sequence

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ops.sandbox.bodies import bad_request, json_answer, number, read_json
from ops.sandbox.courier import Courier
from ops.sandbox.faults import FAULTS, FaultBook, TooManyRulesError
from ops.sandbox.record import MessageLog

LONGEST_WAIT = 600.0  # seconds


class Keep(BaseModel):
    """How many of the newest messages are remembered: what `POST /sandbox/keep` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: int = Field(ge=1, le=1_000_000)


_KEEP = TypeAdapter(Keep)


class Control:
    """Routes under /sandbox, and the two health routes. `clears` forget what each provider remembers."""

    def __init__(
        self, messages: MessageLog, faults: FaultBook, courier: Courier, clears: Sequence[Callable[[], None]]
    ) -> None:
        self._messages = messages
        self._faults = faults
        self._courier = courier
        self._clears = (messages.clear, *clears)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/sandbox/messages", self._list),
            web.delete("/sandbox/messages", self._clear),
            web.post("/sandbox/keep", self._keep),
            *self._messages.sends.routes(),
            web.get("/sandbox/wait", self._wait),
            web.post("/sandbox/faults", self._add_faults),
            web.get("/sandbox/faults", self._show_faults),
            web.delete("/sandbox/faults", self._clear_faults),
            web.get("/healthz", self._health),
            web.get("/readyz", self._health),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        found = self._messages.select(
            to=_address(request, "to"),
            sender=_address(request, "from"),
            account=request.query.get("account"),
            since=int(number(request, "since", 0, 2**53)),
        )
        return json_answer([message.view() for message in found])

    async def _clear(self, _: web.Request) -> web.Response:
        for clear in self._clears:
            clear()
        return web.Response(status=204)

    async def _keep(self, request: web.Request) -> web.Response:
        self._messages.keep = (await read_json(request, _KEEP)).messages
        return web.Response(status=204)

    async def _wait(self, request: web.Request) -> web.Response:
        count = int(number(request, "count", 1, 2**31))
        found = await self._messages.wait(
            to=_address(request, "to"),
            count=count,
            since=int(number(request, "since", 0, 2**53)),
            within=number(request, "timeout", 10.0, LONGEST_WAIT),
        )
        return json_answer({"reached": len(found) >= count, "messages": [message.view() for message in found]})

    async def _add_faults(self, request: web.Request) -> web.Response:
        rules = await read_json(request, FAULTS)
        try:
            return json_answer({"ids": self._faults.add(rules)})
        except TooManyRulesError as full:
            raise bad_request(("body", str(full))) from None

    async def _show_faults(self, _: web.Request) -> web.Response:
        return json_answer(self._faults.view())

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self._faults.clear()
        return web.Response(status=204)

    async def _health(self, _: web.Request) -> web.Response:
        return json_answer({"status": "ok", "receipts_pending": self._courier.pending})


def _address(request: web.Request, name: str) -> str | None:
    """An address from the query. No address holds a blank: one that came is a `+` that the caller did not escape."""
    given = request.query.get(name)
    return given.replace(" ", "+") if given else None
