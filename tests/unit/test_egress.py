"""Where we call out to: the public network and nothing else, however an address is written or a name resolves."""

import asyncio
import io
import socket
from collections.abc import Mapping, Sequence

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.media import Failure, Limits
from shared.media.download import Fetcher
from shared.net import ssrf_guard
from shared.net.address_rules import ForbiddenAddressError, Rules, is_public, parsed
from shared.providers.media_source import Direct, Get

PUBLIC = ("93.184.215.14", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4003:80a::200e", "::ffff:8.8.8.8")
CLOSED = (
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7",
    "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2606:4700::1%eth0",
    "::ffff:0:127.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b::8.8.8.8", "1::1", "4000::1", "5f00::1", "8000::1",
    "", "localhost", "127.1", "0177.0.0.1", "0x7f.0.0.1", "2130706433",
)  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_public_network_is_called(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", CLOSED)
def test_no_other_is(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "called"),
    [
        ("https://media.example.com/a.jpg", True),
        ("https://media.example.com:8443/a.jpg?x=%2F", True),
        ("https://8.8.8.8/a", True),
        ("https://[2606:4700:4700::1111]/a", True),
        ("http://media.example.com/a.jpg", False),
        ("ftp://media.example.com/a", False),
        ("file:///etc/passwd", False),
        ("//media.example.com/a", False),
        ("", False),
        ("https://user@media.example.com/", False),
        ("https://user:secret@media.example.com/", False),
        ("https://127.0.0.1/", False),
        ("https://[::1]/", False),
        ("https://[::ffff:10.0.0.1]/", False),
        ("https://169.254.169.254/latest/meta-data", False),
        ("https://2130706433/", False),
        ("https://0177.0.0.1/", False),
        ("https://0x7f.0.0.1/", False),
        ("https://0x7f000001/", False),
        ("https://127.1/", False),
        ("https://127.1./", False),
        ("https://127.0.0.1./", False),
        ("https://a.example.0x7f/", False),
    ],
)
def test_what_the_words_of_a_url_tell(url: str, called: bool) -> None:
    assert (Rules().problem(parsed(url)) is None) is called


@pytest.mark.parametrize("url", ["https://[::1", "https://a:99999/", "http://a:b/", "https://exa mple.com:x/"])
def test_a_text_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parsed(url)


def test_what_is_signed_is_called_as_it_is_written() -> None:
    written = "https://cdn.example.com/a%7Eb?sig=a%2Fb%3D&x=1+2"
    assert str(parsed(written)) == written
    assert str(parsed("https://cdn.example.com/año.jpg")) == "https://cdn.example.com/a%C3%B1o.jpg"


@pytest.mark.parametrize(
    ("url", "called"),
    [
        ("http://127.0.0.1:4010/a", True),
        ("http://127.0.0.1:4011/a", False),
        ("https://127.0.0.1:4010/a", False),
        ("http://localhost:4010/a", False),
    ],
)
def test_a_trusted_origin_is_trusted_alone(url: str, called: bool) -> None:
    assert (Rules(("http://127.0.0.1:4010",)).problem(parsed(url)) is None) is called


@pytest.mark.parametrize(
    ("answers", "left"),
    [
        (["8.8.8.8", "10.0.0.1"], ["8.8.8.8"]),
        (["::1", "2606:4700:4700::1111", "127.0.0.1"], ["2606:4700:4700::1111"]),
        (["10.0.0.1", "fd00::1"], None),
        ([], None),
    ],
)
def test_of_a_names_addresses_only_the_public_ones_are_called(
    answers: Sequence[str], left: Sequence[str] | None
) -> None:
    if left is None:
        with pytest.raises(ForbiddenAddressError):
            Rules().allowed(answers)
    else:
        assert Rules().allowed(answers) == left


# -- as aiohttp applies it ---------------------------------------------------------------------------------------------


class Names(AbstractResolver):
    """A resolver of a few names, as a stranger's DNS may answer."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in self._names[host]
        ]

    async def close(self) -> None:
        return None


async def _called(url: str, trusted: Sequence[str], names: Mapping[str, Sequence[str]]) -> int:
    async with (
        aiohttp.ClientSession(connector=ssrf_guard.connector(Rules(tuple(trusted)), resolver=Names(names))) as session,
        session.get(url) as answer,
    ):
        return answer.status


async def test_the_address_that_is_connected_to_is_what_is_checked() -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    names = {"inside.example": ["127.0.0.1"], "ours.example": ["127.0.0.1"], "mapped.example": ["::ffff:127.0.0.1"]}
    try:
        for url in (f"http://127.0.0.1:{port}/", f"http://inside.example:{port}/", f"http://mapped.example:{port}/"):
            with pytest.raises(aiohttp.ClientConnectorError) as refused:
                await _called(url, (), names)
            assert ssrf_guard.is_forbidden(refused.value), url
        trusted = (f"http://ours.example:{port}",)
        assert await _called(f"http://ours.example:{port}/", trusted, names) == 404
        with pytest.raises(aiohttp.ClientConnectorError) as refused:
            await _called(f"http://inside.example:{port}/", trusted, names)
        assert ssrf_guard.is_forbidden(refused.value)
    finally:
        await runner.cleanup()


# -- as files are fetched ----------------------------------------------------------------------------------------------

HOSTS = st.sampled_from(
    ["127.0.0.1", "[::1]", "2130706433", "10.0.0.1:99999", "[", "user@10.0.0.1", "1.2.3.4.5", "xn--"]
)


@settings(deadline=None, max_examples=300)
@given(url=st.text() | st.builds("{}://{}/{}".format, st.sampled_from(["http", "https", "ftp", ""]), HOSTS, st.text()))
def test_whatever_a_link_says_there_is_a_reason_and_never_an_exception(url: str) -> None:
    async def fetch() -> object:
        async with Fetcher((), Limits(1, 1, 1, ("*/*",))) as fetcher:
            return await fetcher.fetch(Direct(Get(url, {"Authorization": "secret"})), io.BytesIO(), 5.0)

    assert asyncio.run(fetch()) == Failure("not_allowed")
