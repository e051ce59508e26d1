"""The way out to tenants' systems: into no private network, over kept connections, and through a proxy."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import aiodns
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.net import dns, kept_sessions
from shared.net.address_rules import Rules
from shared.net.egress import Answer, Egress
from tests.support.name_server import Name, name_server
from tests.support.tls_stage import opening_ways, receiving, tls_for

LOCAL = Rules(http=True, networks=(ip_network("127.0.0.0/8"),))
PUBLIC = "93.184.215.14"  # no test reaches it: what leads there is a proxy of the test's own


class Names(AbstractResolver):
    """Names as a stranger's DNS may answer: one list after the other, the last one for ever."""

    def __init__(self, names: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._names = {name: list(answers) for name, answers in names.items()}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host not in self._names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        answers = self._names[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(
                hostname=host, host=one, port=port, family=socket.AF_INET6 if ":" in one else socket.AF_INET, proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for one in found
        ]  # fmt: skip

    async def close(self) -> None:
        return None


# Every form of an address of ours that a URL may have; PORT is that of a listener on all addresses of this machine.
FORMS = (
    "http://127.0.0.1:PORT/", "http://127.0.0.2:PORT/", "http://127.255.255.254:PORT/", "http://0.0.0.0:PORT/",
    "http://localhost:PORT/", "http://LOCALHOST:PORT/", "http://localhost.:PORT/", "http://[::1]:PORT/",
    "http://[::]:PORT/", "http://[0:0:0:0:0:0:0:1]:PORT/", "http://[::127.0.0.1]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/", "http://[::ffff:7f00:1]:PORT/", "http://[::ffff:0:127.0.0.1]:PORT/",
    "http://[64:ff9b::7f00:1]:PORT/", "http://[64:ff9b:1::7f00:1]:PORT/", "http://[2002:7f00:1::]:PORT/",
    "http://[2001::7f00:1]:PORT/", "http://[fe80::1]:PORT/", "http://[fe80::1%25lo]:PORT/", "http://[febf::1]:PORT/",
    "http://[fec0::1]:PORT/", "http://[fd00:ec2::254]:PORT/", "http://[5f00::1]:PORT/", "http://[3fff::1]:PORT/",
    "http://[ff02::1]:PORT/", "http://10.0.0.1:PORT/", "http://172.16.0.1:PORT/", "http://192.168.1.1:PORT/",
    "http://100.64.0.1:PORT/", "http://169.254.169.254:PORT/latest/meta-data", "http://169.254.170.2:PORT/",
    "http://168.63.129.16:PORT/", "http://100.100.100.200:PORT/", "http://192.0.0.192:PORT/", "http://2130706433:PORT/",
    "http://0177.0.0.1:PORT/", "http://0x7f.0.0.1:PORT/", "http://0x7f000001:PORT/", "http://127.1:PORT/",
    "http://127.0.0.1.:PORT/", "http://127.0.1.:PORT/", "http://①②⑦.⓪.⓪.①:PORT/", "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:PORT/",
    "http://127。0。0。1:PORT/", "http://user@127.0.0.1:PORT/", "http://8.8.8.8:80@127.0.0.1:PORT/",
    "http://metadata.google.internal:PORT/", "http://127.0.0.1.nip.io:PORT/", "http://mapped.example:PORT/",
    "http://both.example:PORT/", "http://nat64.example:PORT/", "ftp://127.0.0.1:PORT/", "//127.0.0.1:PORT/",
    "file:///etc/passwd", "http://[::1", "",
)  # fmt: skip
HOSTILE = {
    "localhost": [["127.0.0.1", "::1"]],
    "LOCALHOST": [["127.0.0.1"]],
    "localhost.": [["127.0.0.1"]],
    "metadata.google.internal": [["169.254.169.254"]],
    "127.0.0.1.nip.io": [["127.0.0.1"]],
    "mapped.example": [["::ffff:127.0.0.1"]],
    "both.example": [["::1", "127.0.0.1", "10.0.0.1"]],
    "nat64.example": [["64:ff9b::7f00:1", "64:ff9b:1::7f00:1"]],
}


async def test_no_form_of_an_address_reaches_a_listener_of_ours() -> None:
    assert len(FORMS) >= 40
    async with receiving() as ours, Egress(Rules(http=True), resolver=Names(HOSTILE), timeout=5) as egress:
        for form in FORMS:
            answer = await egress.post(form.replace("PORT", str(ours.port)), b"{}", {})
            assert answer == Answer("not_allowed"), form
        assert (ours.connections, ours.posts) == (0, [])


async def test_nor_does_one_behind_a_proxy_get_a_way_there() -> None:
    async with (
        receiving() as ours,
        opening_ways(ours.port) as proxy,
        Egress(Rules(http=True), proxy=proxy.url, resolver=Names(HOSTILE), timeout=5) as egress,
    ):
        for form in FORMS:
            for scheme in ("http:", "https:"):
                url = form.replace("PORT", str(ours.port)).replace("http:", scheme)
                assert await egress.post(url, b"{}", {}) == Answer("not_allowed"), url
        assert (ours.connections, proxy.asked) == (0, [])


async def test_a_name_that_turns_to_us_after_its_check_is_not_followed() -> None:
    names = {"rebinding.example": [[PUBLIC], ["127.0.0.1"]]}
    async with receiving() as ours, Egress(Rules(http=True), resolver=Names(names), timeout=0.3) as egress:
        for _ in range(3):
            await egress.post(f"http://rebinding.example:{ours.port}/", b"{}", {})
        assert ours.connections == 0


async def test_names_are_asked_of_a_name_server_and_its_answers_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server may answer our own address at once, or after a public one."""
    async with name_server() as server, receiving() as ours:
        before, after = (aiodns.DNSResolver([server.address]) for _ in range(2))  # each keeps its answers for a minute
        monkeypatch.setattr(dns, "_resolver", before)
        server.names["127-0-0-1.rebinding.example"] = Name(("127.0.0.1", "::1"))
        server.names["turning.example"] = Name((PUBLIC,))
        async with Egress(Rules(http=True), timeout=0.3, longest_use=0.01) as egress:
            url = f"http://127-0-0-1.rebinding.example:{ours.port}/"
            assert await egress.post(url, b"{}", {}) == Answer("not_allowed")
            await egress.post(f"http://turning.example:{ours.port}/", b"{}", {})
            server.names["turning.example"] = Name(("127.0.0.1",))
            monkeypatch.setattr(dns, "_resolver", after)
            url = f"http://turning.example:{ours.port}/"
            assert await egress.post(url, b"{}", {}) == Answer("not_allowed")
        async with Egress(LOCAL) as egress:
            assert (await egress.post(url, b"{}", {})).error is None
        assert ours.connections == 1
        await before.close()
        await after.close()


async def test_connections_that_rest_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_sessions, "MOST_RESTING", 3)
    names = Names({f"h{number}.example": [["127.0.0.1"]] for number in range(60)})
    async with receiving() as shop, Egress(LOCAL, resolver=names) as egress:
        for number in range(60):
            assert (await egress.post(f"http://h{number}.example:{shop.port}/", b"{}", {})).error is None
        assert shop.connections == 60
        async with asyncio.timeout(5):
            while True:  # the server hears of their ends a little later
                if shop.open_now() <= 8 * 5:
                    break
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("rules", "url", "called"),
    [
        (Rules(networks=LOCAL.networks), "http://127.0.0.1:PORT/", False),
        (Rules(http=True), "http://127.0.0.1:PORT/", False),
        (LOCAL, "http://127.0.0.1:PORT/", True),
        (LOCAL, "http://shop.example:PORT/", True),
        (Rules(http=True, networks=(ip_network("10.0.0.0/8"),)), "http://127.0.0.1:PORT/", False),
        (Rules(http=True, networks=LOCAL.networks, ports=frozenset((443,))), "http://127.0.0.1:PORT/", False),
    ],
)
async def test_the_operator_says_which_networks_and_ports_there_are(rules: Rules, url: str, called: bool) -> None:
    names = Names({"shop.example": [["127.0.0.1"]]})
    async with receiving() as shop, Egress(rules, resolver=names) as egress:
        answer = await egress.post(url.replace("PORT", str(shop.port)), b"{}", {})
        assert (answer.error is None, shop.connections) == (called, int(called))


@asynccontextmanager
async def calling(**given: Any) -> AsyncIterator[tuple[Any, Egress, str]]:
    async with receiving() as shop, Egress(LOCAL, timeout=2, **given) as egress:
        yield shop, egress, f"http://127.0.0.1:{shop.port}/hook?x=%2F"


async def test_a_connection_serves_the_calls_that_follow_and_is_replaced_after_its_time() -> None:
    async with calling(longest_use=0.5) as (shop, egress, url):
        for _ in range(3):
            assert await egress.post(url, b"{}", {}) == Answer(None, 200, b"thanks")
        before = shop.connections
        assert before <= 2  # the first sessions of a part of the hosts end sooner
        async with asyncio.timeout(5):
            while shop.connections == before:
                await egress.post(url, b"{}", {})
        assert shop.posts[0] == (f"127.0.0.1:{shop.port}", "/hook?x=%2F", b"{}")


@pytest.mark.parametrize(
    ("status", "error"),
    [(204, None), (301, "redirect"), (308, "redirect"), (410, "gone"), (404, "status"), (503, "status")],
)
async def test_a_status_is_an_outcome_and_no_redirect_is_followed(status: int, error: str | None) -> None:
    async with calling() as (shop, egress, url):
        shop.status, shop.headers = status, {"Location": url, "Retry-After": "7"}
        answer = await egress.post(url, b"{}", {})
        assert (answer.error, answer.status, answer.retry_after) == (error, status, "7")
        assert len(shop.posts) == 1


async def test_of_a_large_answer_the_beginning_is_read() -> None:
    async with calling() as (shop, egress, url):
        shop.answer = b"x" * 10_000_000
        for _ in range(2):
            assert await egress.post(url, b"{}", {}) == Answer(None, 200, b"x" * 4096)
        assert shop.connections == 2  # what is not read to its end is not used again


async def talking(*parts: bytes, every: float = 0.0) -> tuple[asyncio.Server, str]:
    """A server that says these parts, whatever it is asked, and then ends the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(every)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize(
    ("parts", "every", "answer"),
    [
        ((), 0, Answer("cut_off")),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), 0, Answer("cut_off")),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",), 0, Answer(None, 200, b"half")),
        ((b"HTTP/1.1 200 OK\r\nX: ", *[b"2"] * 90), 0.1, Answer("timeout")),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", *[b"x"] * 90), 0.1, Answer(None, 200, b"x")),
    ],
    ids=["nothing", "no HTTP", "half a body", "dripping head", "dripping body"],
)
async def test_what_a_server_does_is_an_outcome_within_the_time(
    parts: Sequence[bytes], every: float, answer: Answer
) -> None:
    server, url = await talking(*parts, every=every)
    async with server, Egress(LOCAL, timeout=0.5) as egress, asyncio.timeout(1.5):
        found = await egress.post(url, b"{}", {})
    assert (found.error, found.status) == (answer.error, answer.status)
    assert found.body.startswith(answer.body)


async def test_a_kept_connection_that_its_server_ends_costs_no_attempt() -> None:
    """Servers end connections that rest, at the moment of the next call, too."""
    seen: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(2):
            if not (await reader.read(65536)):
                break
            seen.append(number)
            if number == 0:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, Egress(LOCAL, timeout=2) as egress:
        first, second = [await egress.post(url, b"", {}) for _ in range(2)]
    assert first == Answer(None, 200)
    assert second == Answer(None, 200, sent_again=second.sent_again)
    assert second.sent_again is not None
    assert 0 < second.sent_again < 2
    assert seen == [0, 1, 0]


async def test_a_call_that_is_sent_again_in_vain_says_so_too() -> None:
    """The second server is gone: what came to the first one is known, though the call has failed."""
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        if not served.is_set():
            served.set()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await reader.read(65536)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, Egress(LOCAL, timeout=2) as egress:
        assert await egress.post(url, b"", {}) == Answer(None, 200)
        failed = await egress.post(url, b"", {})
    assert failed.error == "cut_off"
    assert failed.sent_again is not None


async def test_what_is_not_there_has_a_reason() -> None:
    async with receiving() as gone:
        pass
    async with Egress(LOCAL, resolver=Names({"shop.example": [["127.0.0.1"]]}), timeout=2) as egress:
        assert await egress.post(f"http://shop.example:{gone.port}/", b"", {}) == Answer("connect")
        assert await egress.post("http://unknown.example/", b"", {}) == Answer("dns")


# -- TLS, and the proxy ------------------------------------------------------------------------------------------------

NAMES = {
    "shop.example": [[PUBLIC]],
    "other.example": [[PUBLIC]],
    "wrong.example": [[PUBLIC]],
    "mixed.example": [["10.0.0.1", "2606:4700:4700::1111", PUBLIC]],
}


async def test_tls_verifies_the_name_of_the_url() -> None:
    names = Names({"shop.example": [["127.0.0.1"]], "wrong.example": [["127.0.0.1"]]})
    with tls_for("shop.example") as tls:
        async with receiving(tls) as shop, Egress(LOCAL, tls=tls.client, resolver=names) as egress:
            for _ in range(2):
                assert (await egress.post(f"https://shop.example:{shop.port}/", b"", {})).error is None
            assert shop.connections <= 2
            assert await egress.post(f"https://wrong.example:{shop.port}/", b"", {}) == Answer("tls")
        async with (
            receiving(tls) as shop,
            Egress(LOCAL, resolver=names) as egress,
        ):  # which does not trust the authority
            assert await egress.post(f"https://shop.example:{shop.port}/", b"", {}) == Answer("tls")


async def test_a_proxy_is_asked_for_the_checked_address_and_tls_verifies_the_name_behind_it() -> None:
    with tls_for("shop.example", "other.example", "mixed.example") as tls:
        async with (
            receiving(tls) as shop,
            opening_ways(shop.port) as proxy,
            Egress(Rules(), proxy=proxy.url, tls=tls.client, resolver=Names(NAMES), timeout=5) as egress,
        ):
            for _ in range(3):
                assert (await egress.post("https://shop.example/a", b"1", {})).error is None
            way = f"CONNECT {PUBLIC}:443 HTTP/1.1 | {PUBLIC}"
            first = len(proxy.asked)
            assert first <= 2
            assert set(proxy.asked) == {way}
            assert shop.posts == [("shop.example", "/a", b"1")] * 3
            # The same address, but no connection that was made for another name.
            assert (await egress.post("https://other.example/", b"", {})).error is None
            assert shop.posts[-1][0] == "other.example"
            assert await egress.post("https://wrong.example/", b"", {}) == Answer("tls")
            assert len(proxy.asked) == first + 2
            # Of several addresses a public one, IPv4 first; the port stands in Host where it is not the usual one.
            assert (await egress.post("https://mixed.example:8443/", b"", {})).error is None
            assert proxy.asked[-1] == f"CONNECT {PUBLIC}:8443 HTTP/1.1 | {PUBLIC}:8443"
            assert shop.posts[-1][0] == "mixed.example:8443"


async def test_a_proxy_that_fails_is_another_failure_than_a_url_that_does() -> None:
    async with opening_ways(0) as proxy:
        for status, error in (("502 Bad Gateway", "connect"), ("407 Proxy Authentication Required", "proxy")):
            async with Egress(Rules(), proxy=proxy.url, resolver=Names(NAMES), timeout=5) as egress:
                proxy.status = status
                assert await egress.post("https://shop.example/", b"", {}) == Answer(error)  # type: ignore[arg-type]
                assert await egress.post("https://unknown.example/", b"", {}) == Answer("dns")
        proxy.asked.clear()
        async with Egress(Rules(), proxy=proxy.url, resolver=Names(NAMES), timeout=5) as egress:
            proxy.status = "502 Bad Gateway"
            await egress.post("https://mixed.example/", b"", {})
            assert [line.split()[1] for line in proxy.asked] == [f"{PUBLIC}:443", "[2606:4700:4700::1111]:443"]
    async with Egress(Rules(), proxy=proxy.url, resolver=Names(NAMES), timeout=5) as egress:
        assert await egress.post("https://shop.example/", b"", {}) == Answer("proxy")


async def test_a_tenant_can_not_name_the_proxy_itself() -> None:
    async with opening_ways(0) as proxy:
        where = proxy.url.rpartition("@")[2]
        async with Egress(Rules(http=True), proxy=proxy.url, timeout=5) as egress:
            assert await egress.post(f"http://{where}/", b"", {}) == Answer("not_allowed")
            assert proxy.asked == []


async def test_trusted_origins_are_called_straight() -> None:
    async with receiving() as ours, opening_ways(0) as proxy:
        origin = f"http://127.0.0.1:{ours.port}"
        async with Egress(Rules((origin,)), proxy=proxy.url) as egress:
            assert (await egress.post(f"{origin}/a", b"", {})).error is None
            assert proxy.asked == []
