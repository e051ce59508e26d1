"""Plays the files of customers' messages: Twilio's MediaUrl, which wants the account's credentials and redirects to a
CDN, and Meta's two steps, whose address is valid for a while.

`POST /sandbox/media` makes a file and returns how a message names it: `url` for Twilio's MediaUrl or for a plain link,
`id` and `sha256` for Meta. `GET /sandbox/media/{id}/calls` lists the calls for it, and with which credentials.
"""

import asyncio
import hashlib
import itertools
import random
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeVar
from uuid import uuid4

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ops.sandbox.answer import STOPPING
from ops.sandbox.bodies import bad_request, json_answer, read_json
from ops.sandbox.meta_forms import error_body, error_message

MOST_FILES = 1000
PIECE = 64 * 1024  # bytes of a slow file at a time

R = TypeVar("R", bound=web.StreamResponse)
Step = Literal["api", "located", "bytes"]
Fault = Literal["gone", "forbidden", "unavailable", "throttled", "hang", "short", "chunked"]


class NewFile(BaseModel):
    """What `POST /sandbox/media` takes. The same seed and size are the same bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Literal["twilio", "meta", "plain"]
    size: int = Field(default=1000, ge=0, le=256 * 1024**2)
    seed: int = 0
    mime_type: str = "image/jpeg"
    account: str = Field(default="", description="Twilio's account sid, part of the address")
    fault: Fault | None = Field(
        default=None, description="short: fewer bytes than it announces; chunked: announces none; hang: half of it"
    )
    times: int | None = Field(default=None, ge=1, description="the fault has passed after so many calls for the bytes")
    url_seconds: float = Field(default=300.0, ge=0, description="how long an address that Meta tells is valid")
    wrong_hash: bool = Field(default=False, description="the announced hash is another file's")


@dataclass(frozen=True, slots=True)
class AskedFor:
    """One call for a file. `authorization` says whether any came with it."""

    step: Step
    host: str
    authorization: bool
    status: int


@dataclass(slots=True)
class _File:
    made: NewFile
    id: str
    content: bytes
    calls: list[AskedFor] = field(default_factory=list)
    faults: int = 0

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.content + (b"!" if self.made.wrong_hash else b"")).digest()

    def fault(self) -> Fault | None:
        """What spoils this call for the bytes. Asking counts."""
        self.faults += 1
        return None if self.made.times is not None and self.faults > self.made.times else self.made.fault


_NEW = TypeAdapter(NewFile)


class MediaSandbox:
    """The files of every provider. `knows_login` says whether Twilio takes a header for an account, `knows_token`
    whether Meta takes an access token."""

    def __init__(self, knows_login: Callable[[str, str], bool], knows_token: Callable[[str], bool]) -> None:
        self._knows_login = knows_login
        self._knows_token = knows_token
        self._files: dict[str, _File] = {}
        self._numbers = itertools.count(1)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/2010-04-01/Accounts/{account}/Messages/{message}/Media/{media}", self._twilio),
            web.get(r"/{version:v\d+\.\d+}/{media:99\d{13}}", self._meta),
            web.get("/sandbox/files/{media}", self._bytes),
            web.post("/sandbox/media", self._add),
            web.get("/sandbox/media/{media}/calls", self._calls),
        ]

    def clear(self) -> None:
        self._files.clear()

    # -- the providers' sides ------------------------------------------------------------------------------------------

    async def _twilio(self, request: web.Request) -> web.Response:
        """Redirects to the CDN, which has another host's name here."""
        file = self._file(request)
        account = request.match_info["account"]
        if file is None:
            return web.Response(status=404)
        if not self._knows_login(account, request.headers.get("Authorization", "")):
            return self._asked(file, "api", request, web.Response(status=401))
        cdn = request.url.with_host("localhost" if request.url.host != "localhost" else "127.0.0.1")
        location = str(cdn.with_path(f"/sandbox/files/{file.id}").with_query(signed="yes"))
        return self._asked(file, "api", request, web.Response(status=307, headers={"Location": location}))

    async def _meta(self, request: web.Request) -> web.Response:
        file = self._file(request)
        if file is None:
            missing = "Unsupported get request. Object with this ID does not exist"
            return json_answer(error_body(100, missing, 33), 400)
        if not self._knows_token(request.headers.get("Authorization", "").removeprefix("Bearer ")):
            return self._asked(file, "api", request, json_answer(error_body(190, error_message(190), None), 401))
        until = str(time.time() + file.made.url_seconds)
        located = {
            "messaging_product": "whatsapp",
            "url": str(request.url.with_path(f"/sandbox/files/{file.id}").with_query(until=until)),
            "mime_type": file.made.mime_type,
            "sha256": file.digest.hex(),
            "file_size": str(len(file.content)),
            "id": file.id,
        }
        return self._asked(file, "located", request, json_answer(located))

    async def _bytes(self, request: web.Request) -> web.StreamResponse:
        """The bytes themselves: at Meta's with the token and in time, elsewhere for any caller that has the address."""
        file = self._file(request)
        if file is None:
            return web.Response(status=404)
        if file.made.provider == "meta":
            if not self._knows_token(request.headers.get("Authorization", "").removeprefix("Bearer ")):
                return self._asked(file, "bytes", request, web.Response(status=401))
            if float(request.query.get("until", "0")) < time.time():
                return self._asked(file, "bytes", request, web.Response(status=404))
        fault = file.fault()
        match fault:
            case "gone" | "forbidden" | "unavailable" | "throttled":
                status = {"gone": 404, "forbidden": 403, "unavailable": 503, "throttled": 429}[fault]
                headers = {"Retry-After": "0"} if fault == "throttled" else None
                return self._asked(file, "bytes", request, web.Response(status=status, headers=headers))
        return await self._stream(file, request, fault)

    async def _stream(self, file: _File, request: web.Request, fault: Fault | None) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": file.made.mime_type})
        if fault == "chunked":
            answer.enable_chunked_encoding()
        else:
            answer.content_length = len(file.content)
        self._asked(file, "bytes", request, answer)
        await answer.prepare(request)
        broken = fault in ("short", "hang")
        content = file.content[: len(file.content) // 2] if broken else file.content
        for start in range(0, len(content), PIECE):
            await answer.write(content[start : start + PIECE])
        if fault == "hang":
            await request.app[STOPPING].wait()
        if broken and request.transport is not None:
            request.transport.close()
        return answer

    def _file(self, request: web.Request) -> _File | None:
        return self._files.get(request.match_info["media"])

    def _asked(self, file: _File, step: Step, request: web.Request, answer: R) -> R:
        """Note the call, and hand its answer on."""
        authorization = "Authorization" in request.headers
        file.calls.append(AskedFor(step, request.url.host or "", authorization, answer.status))
        return answer

    # -- the control side ----------------------------------------------------------------------------------------------

    async def _add(self, request: web.Request) -> web.Response:
        made = await read_json(request, _NEW)
        if len(self._files) >= MOST_FILES:
            raise bad_request(("body", f"at most {MOST_FILES} files; DELETE /sandbox/messages clears them"))
        number = next(self._numbers)
        media_id = f"99{number:013}" if made.provider == "meta" else f"ME{uuid4().hex}"
        content = await asyncio.to_thread(random.Random(made.seed).randbytes, made.size)
        file = self._files[media_id] = _File(made, media_id, content)
        path = f"/sandbox/files/{media_id}"
        if made.provider == "twilio":
            path = f"/2010-04-01/Accounts/{made.account}/Messages/MM{uuid4().hex}/Media/{media_id}"
        return json_answer(
            {
                "id": media_id,
                "url": str(request.url.with_path(path)),
                "mime_type": made.mime_type,
                "sha256": b64encode(file.digest).decode(),  # as webhooks write it
                "hex": hashlib.sha256(content).hexdigest(),
            }
        )

    async def _calls(self, request: web.Request) -> web.Response:
        file = self._file(request)
        if file is None:
            raise bad_request(("id", "no such file; POST /sandbox/media makes one"))
        return json_answer([asdict(call) for call in file.calls])
