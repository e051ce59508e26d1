"""Calls Meta's Graph API with one access token. Meta has no official SDK for Python."""

from datetime import UTC, datetime
from typing import Final

import aiohttp
import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from shared.providers.http_client import base_of, error_fields, make_session, read, retry_after
from shared.providers.http_outcomes import Answer
from shared.providers.json_fields import fields_of, text_of
from shared.providers.meta.errors import scrub

CONNECT_TIMEOUT: Final = 5.0


class MetaCredentials(BaseModel):
    """A channel's credentials. An app secret or verify token in the same JSON is for webhooks."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    access_token: SecretStr = Field(min_length=1)

    @field_validator("access_token")
    @classmethod
    def _fits_a_header(cls, token: SecretStr) -> SecretStr:
        # With a line break in the token no call would leave, and each would seem to have an unknown outcome.
        if not token.get_secret_value().isprintable():
            raise ValueError("a token has no line breaks and nothing invisible in it; enter it anew")
        return token


class GraphClient:
    """One session. Made inside a running loop, closed by its owner, who also bounds each call.

    `base_url` is the Graph API's address with its version.
    """

    def __init__(
        self, credentials: MetaCredentials, *, timeout: float, base_url: str, proxy: str | None = None
    ) -> None:
        self._base = base_of(base_url, "meta_api_url")
        self._session = make_session(min(CONNECT_TIMEOUT, timeout / 2), proxy)
        self._headers = {
            "Authorization": f"Bearer {credentials.access_token.get_secret_value()}",
            "Content-Type": "application/json",
        }

    async def call(self, method: str, path: str, data: bytes | None = None) -> dict[str, object] | Answer:
        """The object in a successful answer, or an unsuccessful answer. Raises any other error."""
        async with self._session.request(
            method, f"{self._base}/{path}", data=data, headers=self._headers, allow_redirects=False
        ) as answer:
            if not 200 <= answer.status < 300:
                return await _unsuccessful(answer)
            loaded = orjson.loads(await read(answer))
            if not isinstance(loaded, dict):
                raise ValueError("no JSON object")
            return loaded

    async def close(self) -> None:
        await self._session.close()


async def _unsuccessful(answer: aiohttp.ClientResponse) -> Answer:
    """Status, code and sentence; the status alone where the body does not arrive or is no JSON."""
    error = fields_of(await error_fields(answer), "error")
    details = text_of(fields_of(error, "error_data"), "details")
    return Answer(
        status=answer.status,
        code=text_of(error, "code"),
        subcode=text_of(error, "error_subcode"),
        message=details or text_of(error, "message"),
        retry_after=retry_after(answer.headers.get("Retry-After"), datetime.now(UTC)),
    )


def named(error: BaseException) -> str:
    """An error in words that may be logged and stored."""
    return scrub(f"{type(error).__name__}: {error}")
