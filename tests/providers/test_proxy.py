"""Providers, models and files behind an HTTP proxy, which is a real one of the test's own."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from shared import providers
from shared.bot import open_engines
from shared.bot.base import Answer, Turn
from shared.domain.media import Failure, Limits
from shared.domain.model import Outgoing
from shared.media.download import Fetcher
from shared.providers.base import Accepted, Unreachable
from shared.providers.media_source import Direct, Get
from shared.settings import Settings
from tests.providers import test_kommo_forms, test_meta_forms
from tests.support import twilio_stage
from tests.support.llm_stage import answering, reply_settings

CREDENTIALS: dict[str, dict[str, str]] = {
    "twilio": {"account_sid": twilio_stage.ACCOUNT, "auth_token": "token"},
    "meta": {"access_token": "EAAtestTokenOfNobody0123456789"},
    "kommo": {"secret": "a secret of the channel", "bot_id": "0a1b2c3d-0000-4000-8000-000000000001"},
}
MESSAGES: dict[str, Outgoing] = {
    "twilio": twilio_stage.outgoing(),
    "meta": test_meta_forms.outgoing(),
    "kommo": test_kommo_forms.outgoing(),
}


@dataclass
class Proxy:
    """Forwards plain requests; opens no way through itself, so that no test leaves this machine."""

    status: str = "403 Forbidden"
    asked: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        self.asked.append(f"{method} {target}")
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        self.logins.append(fields.get("Proxy-Authorization", ""))
        if method == "CONNECT":
            writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: 0\r\n\r\n".encode())
        else:
            where = urlsplit(target)
            behind, to = await asyncio.open_connection(where.hostname, where.port)
            straight = head.replace(f"{where.scheme}://{where.netloc}", "", 1).replace(
                "\r\n", "\r\nConnection: close\r\n", 1
            )
            to.write(straight.encode())
            to.write(await reader.readexactly(int(fields.get("Content-Length", 0))))
            writer.write(await behind.readuntil(b"\r\n\r\n"))
            await writer.drain()
            while data := await behind.read(65536):
                writer.write(data)
                await writer.drain()
            to.close()
            await to.wait_closed()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def proxying(status: str = "403 Forbidden") -> AsyncIterator[Proxy]:
    proxy = Proxy(status)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://somebody:word@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()


def settings_with(proxy: Proxy, **given: object) -> Settings:
    return Settings.model_validate({"https_proxy": proxy.url, **given})


async def sent(provider: str, api_url: str, proxy: str, **given: object) -> object:
    """What comes of a message to a provider whose API has this address."""
    settings = Settings.model_validate(
        {f"{provider}_api_url": api_url, "https_proxy": proxy, "send_timeout": 5.0, **given}
    )
    sender = providers.provider(provider).make_sender(json.dumps(CREDENTIALS[provider]), settings)
    try:
        return await sender.send(MESSAGES[provider])
    finally:
        await sender.close()


async def test_a_message_leaves_through_the_proxy_with_its_login() -> None:
    async with twilio_stage.playing() as provider, proxying() as proxy:
        outcome = await asyncio.wait_for(sent("twilio", provider.url, proxy.url), 10)
        assert isinstance(outcome, Accepted)
        assert len(provider.asked) == 1
        assert proxy.asked == [f"POST {provider.url}/2010-04-01/Accounts/{twilio_stage.ACCOUNT}/Messages.json"]
        assert proxy.logins == ["Basic c29tZWJvZHk6d29yZA=="]
        assert provider.logins[0] != proxy.logins[0]


@pytest.mark.parametrize("provider", sorted(CREDENTIALS))
@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
async def test_where_the_proxy_opens_no_way_nothing_was_sent_so_it_may_be_tried_again(
    provider: str, status: str
) -> None:
    """And the provider's name is the proxy's to look up, as our own network may know none."""
    async with proxying(status) as proxy:
        outcome = await sent(provider, "https://provider.invalid", proxy.url)
        assert isinstance(outcome, Unreachable)
        assert proxy.asked == ["CONNECT provider.invalid:443"]


@pytest.mark.parametrize("provider", sorted(CREDENTIALS))
async def test_a_proxy_that_is_not_there_is_no_unknown_send(provider: str) -> None:
    async with proxying() as proxy:
        gone = proxy.url
    assert isinstance(await sent(provider, "https://provider.invalid", gone), Unreachable)


async def test_trusted_origins_are_called_straight() -> None:
    async with twilio_stage.playing() as provider, proxying() as proxy:
        outcome = await sent("twilio", provider.url, proxy.url, trusted_origins=(provider.url,))
        assert isinstance(outcome, Accepted)
        assert proxy.asked == []
        settings = settings_with(proxy, trusted_origins=(provider.url,))
        assert settings.proxy_for("https://graph.facebook.com/v24.0") == proxy.url


async def test_a_model_is_asked_through_the_proxy() -> None:
    said = {"choices": [{"message": {"role": "assistant", "content": "Hola."}}]}
    async with answering(said) as model, proxying() as proxy:
        async with open_engines(settings_with(proxy, llm_base_url=model.url)) as engines:
            answer = await engines["llm"].answer(reply_settings(), (Turn("user", "hola"),), 1, "whatsapp")
        assert answer == Answer("Hola.", "model")
        assert proxy.asked == [f"POST {model.url}/chat/completions"]


async def test_files_are_fetched_through_the_proxy_and_private_addresses_never() -> None:
    async with proxying() as proxy, Fetcher((), Limits(1, 1, 1, ("*/*",)), proxy.url) as fetcher:
        for url, failure in (
            ("https://files.invalid/picture", Failure("unreachable")),
            ("https://10.0.0.1/picture", Failure("not_allowed")),
            ("https://169.254.169.254/latest", Failure("not_allowed")),
        ):
            assert await fetcher.fetch(Direct(Get(url)), io.BytesIO(), 5.0) == failure
        assert proxy.asked == ["CONNECT files.invalid:443"]


@pytest.mark.parametrize("given", ["proxy:3128", "https://proxy:3128", "socks5://proxy", "http://", "http://a/b"])
def test_what_is_no_proxy_is_refused_at_start(given: str) -> None:
    with pytest.raises(ValueError, match="give http://HOST:PORT"):
        Settings.model_validate({"https_proxy": given})
