"""Calls the sandbox's control API: the session below SandboxClient."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import orjson
from aiohttp import ClientSession, ClientTimeout


class SandboxError(Exception):
    """The sandbox refused a control call; the text names the field and the remedy."""


class ControlSession:
    """`async with` opens the session."""

    def __init__(self, base_url: str) -> None:
        self._base = base_url.rstrip("/")
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = ClientSession(timeout=ClientTimeout(total=None, sock_connect=5))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def _call(
        self, method: str, path: str, *, query: Mapping[str, object] | None = None, body: object = None
    ) -> bytes:
        if self._session is None:
            raise RuntimeError("use the client as `async with SandboxClient(url) as sandbox`")
        params = {name: str(value) for name, value in (query or {}).items() if value is not None}
        data = None if body is None else orjson.dumps(body)
        async with self._session.request(method, f"{self._base}/sandbox/{path}", params=params, data=data) as response:
            answer = await response.read()
        if response.status >= 400:
            raise SandboxError(f"{method} /sandbox/{path}: {response.status} {answer.decode('utf-8', 'replace')}")
        return answer
