"""The client of an OpenAI-compatible model. The import costs about 30 MB, so it is loaded for the first answer.

The `openai` package runs on httpx2. Its own client would take a proxy from the environment, follow redirects with the
customer's text, and read an answer of any size; ours does none of these.
"""

import logging
from collections.abc import AsyncIterator

import httpx2
from openai import AsyncOpenAI

LARGEST_ANSWER = 1024 * 1024  # bytes; 4000 tokens with all their wrapping stay far below
_NO_KEY = "none"  # a self-hosted model needs no key, but the package requires one


class AnswerTooLargeError(Exception):
    """The server sends more than LARGEST_ANSWER, or compressed data that may expand to more."""


class _Counted(httpx2.AsyncByteStream):
    """A body that ends in AnswerTooLargeError once it is larger than an answer can be."""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._body:
            size += len(chunk)
            if size > LARGEST_ANSWER:
                raise AnswerTooLargeError(f"more than {LARGEST_ANSWER} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._body.aclose()


class _CountingTransport(httpx2.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            await response.aclose()  # the bytes on the wire are counted, not what they expand to
            raise AnswerTooLargeError("packed, though we asked for it as it is")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Counted(response.stream)
        return response


def connect(base_url: str, api_key: str, proxy: str | None = None) -> AsyncOpenAI:
    """A client that tries each call once; its owner closes it. Any thread may call this."""
    client = AsyncOpenAI(
        base_url=base_url,
        api_key=api_key or _NO_KEY,  # never None: the package would send the environment's OPENAI_API_KEY instead
        max_retries=0,
        http_client=httpx2.AsyncClient(
            transport=_CountingTransport(trust_env=False, proxy=proxy),
            trust_env=False,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity"},
        ),
    )
    client.organization = client.project = None  # the package takes them from the environment; ours are in settings.py
    logging.getLogger("openai").setLevel(logging.WARNING)  # OPENAI_LOG=debug must not log customers' texts
    _ = client.chat.completions  # loads another part of the package now and not in the loop
    return client
