"""Plays the lists of message templates of Meta and Twilio. `POST /sandbox/templates` sets those of an account."""

from base64 import b64decode
from collections.abc import Callable
from typing import Annotated, Any, Literal

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ops.sandbox.answer import Refuse, answer
from ops.sandbox.bodies import json_answer, read_json
from ops.sandbox.faults import FaultBook
from ops.sandbox.meta import refuse as meta_refuse
from ops.sandbox.record import Call, Moment
from ops.sandbox.template_book import TemplateBook
from ops.sandbox.twilio import refuse as twilio_refuse

LIST = "list of templates"  # what a fault's `body_contains` is held against
MOST_ON_A_PAGE = 1000


class AccountTemplates(BaseModel):
    """What `POST /sandbox/templates` takes: templates as the provider's own list has them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Literal["meta", "twilio"]
    account: Annotated[str, Field(min_length=1, max_length=64)]
    templates: tuple[dict[str, Any], ...]


_TEMPLATES = TypeAdapter(AccountTemplates)


class TemplatesSandbox:
    """The templates of all accounts. `meta_sees` and `twilio_knows` check a caller's credentials for an account."""

    def __init__(
        self,
        faults: FaultBook,
        book: TemplateBook,
        meta_sees: Callable[[str, str], bool],
        twilio_knows: Callable[[str, str], bool],
    ) -> None:
        self._faults = faults
        self._meta_sees = meta_sees
        self._twilio_knows = twilio_knows
        self._book = book

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(r"/{version:v\d+\.\d+}/{account}/message_templates", self._meta),
            web.get("/v1/ContentAndApprovals", self._twilio),
            web.post("/sandbox/templates", self._set),
        ]

    def clear(self) -> None:
        """Give every account the usual templates again."""
        self._book.clear()

    async def _set(self, request: web.Request) -> web.Response:
        given = await read_json(request, _TEMPLATES)
        self._book.set(given.provider, given.account, given.templates)
        return web.Response(status=204)

    async def _meta(self, request: web.Request) -> web.Response:
        account = request.match_info["account"]
        token = request.headers.get(hdrs.AUTHORIZATION, "").removeprefix("Bearer ")
        if not self._meta_sees(token, account):
            return meta_refuse(401, 190)
        try:
            size, start = int(request.query.get("limit", "25")), int(request.query.get("after", "0"))
        except ValueError:
            return meta_refuse(400, 100, "(#100) Invalid parameter: after")
        every = self._book.all("meta", account)
        shown = every[start : start + size]
        end = start + len(shown)
        following = {"next": str(request.url.update_query(after=str(end)))} if end < len(every) else {}
        paging = {"paging": {"cursors": {"before": str(start), "after": str(end)}, **following}} if shown else {}
        return await self._answered(request, "meta", account, {"data": shown, **paging}, meta_refuse)

    async def _twilio(self, request: web.Request) -> web.Response:
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        try:
            account = b64decode(authorization.removeprefix("Basic ")).decode().partition(":")[0]
            size = min(int(request.query.get("PageSize", "50")), MOST_ON_A_PAGE)
            page = int(request.query.get("Page", "0"))
        except ValueError:
            return twilio_refuse(401, 20003)
        if not self._twilio_knows(account, authorization):
            return twilio_refuse(401, 20003)
        every = self._book.all("twilio", account)
        shown = every[page * size : (page + 1) * size]
        following = str(request.url.update_query(Page=str(page + 1))) if (page + 1) * size < len(every) else None
        meta = {"key": "contents", "page": page, "page_size": size, "url": str(request.url),
                "next_page_url": following}  # fmt: skip
        return await self._answered(request, "twilio", account, {"contents": shown, "meta": meta}, twilio_refuse)

    async def _answered(
        self, request: web.Request, provider: str, account: str, body: object, refuse: Refuse
    ) -> web.Response:
        fault = self._faults.answer_fault(provider, to=None, body=LIST, account=account)
        call = Call(seq=0, received_at=Moment.now())
        return await answer(request, call, fault, accept=lambda: json_answer(body), refuse=refuse)
