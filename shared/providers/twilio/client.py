"""Calls Twilio's API by the vendor's SDK, with our own transport, limits and timeouts."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Self
from urllib.parse import urlencode, urlsplit

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from yarl import URL

from shared.providers.http_client import base_of, error_fields, make_session, read, retry_after
from shared.providers.http_outcomes import Answer
from shared.providers.twilio.errors import scrub

CONNECT_TIMEOUT: Final = 5.0


class TwilioCredentials(BaseModel):
    """A channel's credentials. An API key makes the calls where there is one; the auth token signs webhooks."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    account_sid: str = Field(pattern=r"^AC[0-9A-Za-z]{1,62}$")
    auth_token: SecretStr = Field(min_length=1)
    api_key: str | None = None
    api_secret: SecretStr | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.api_key is None) != (self.api_secret is None):
            raise ValueError("api_key and api_secret come together: give both or neither")
        return self

    def login(self) -> tuple[str, str]:
        """User name and password of HTTP Basic."""
        if self.api_key is not None and self.api_secret is not None:
            return self.api_key, self.api_secret.get_secret_value()
        return self.account_sid, self.auth_token.get_secret_value()


def named(error: BaseException) -> str:
    """An error in words that may be logged and stored."""
    return scrub(f"{type(error).__name__}: {error}")


class UnsuccessfulError(Exception):
    """An answer outside 2xx. The SDK's own exceptions drop the headers, and with them Retry-After."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Http(AsyncHttpClient):  # type: ignore[misc]  # the SDK is typed but says so to no type checker
    """The SDK's transport, with our base URL, limits and timeouts.

    Its own AsyncTwilioHttpClient takes no connector, drops the constructor's timeout, keeps the last request and
    answer on the instance, and logs query parameters: the recipient's number.
    """

    def __init__(self, base_url: str, *, connect_timeout: float, proxy: str | None) -> None:
        super().__init__(None, True)  # no logger: nothing of the parent's that logs is called
        self._base = base_of(base_url, "twilio_api_url")
        self._session = make_session(connect_timeout, proxy)

    async def request(
        self,
        method: str,
        url: str,
        params: Mapping[str, object] | None = None,
        data: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (the SDK's signature; it passes none)
        allow_redirects: bool = False,
    ) -> Response:
        """The SDK calls this for every request. Whatever host it names, our base URL is called."""
        asked = urlsplit(url)
        query = "&".join(part for part in (asked.query, urlencode(dict(params or {}), doseq=True)) if part)
        async with self._session.request(
            method,
            URL(f"{self._base}{asked.path}{'?' if query else ''}{query}", encoded=True),
            data=urlencode(dict(data), doseq=True, errors="replace").encode() if data else None,
            headers={**(headers or {}), **({"Authorization": aiohttp.encode_basic_auth(*auth)} if auth else {})},
            allow_redirects=False,
        ) as answer:
            if not 200 <= answer.status < 300:
                raise UnsuccessfulError(await _unsuccessful(answer))
            body = await read(answer)
            return Response(answer.status, body.decode("utf-8", "replace"), answer.headers)

    async def close(self) -> None:
        await self._session.close()


async def _unsuccessful(answer: aiohttp.ClientResponse) -> Answer:
    """Status, code and sentence; the status alone where the body does not arrive or is no JSON."""
    fields = await error_fields(answer)
    code, sentence = fields.get("code"), fields.get("message") or fields.get("detail") or fields.get("title")
    return Answer(
        status=answer.status,
        code=str(code) if isinstance(code, int | str) else "",
        message=sentence if isinstance(sentence, str) else "",
        retry_after=retry_after(answer.headers.get("Retry-After"), datetime.now(UTC)),
    )
