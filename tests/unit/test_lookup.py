"""Names of links and mail servers: what hangs holds up no other, what is slow is found, what is private is refused."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator

import aiodns
import pytest

from shared.domain.media import Failure, Limits
from shared.media.download import Fetcher
from shared.net import dns
from shared.net.dns import look_up
from shared.providers.email.smtp_connect import PrivateAddressError, connected_socket
from shared.providers.media_source import Direct, Get
from tests.support.name_server import A, Name, NameServer, name_server

PUBLIC = "8.8.8.8"


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NameServer]:
    """The name server that lookups of this test ask, as if /etc/resolv.conf named it."""
    async with name_server() as started:
        resolver = aiodns.DNSResolver([started.address], tries=dns.TRIES)
        monkeypatch.setattr(dns, "_resolver", resolver)
        yield started
        await resolver.close()


def _link(host: str) -> Direct:
    return Direct(Get(f"https://{host}/"))


async def test_names_that_hang_leave_a_process_its_other_names_and_files(server: NameServer) -> None:
    hanging = [f"{n}.hangs.example" for n in range(30)]
    server.names = {"answers.example": Name((PUBLIC,))} | dict.fromkeys(hanging, Name(after=None))
    async with Fetcher((), Limits(1, 1, 1, ("*/*",))) as fetcher:
        links = [asyncio.create_task(fetcher.fetch(_link(host), io.BytesIO(), 2.0)) for host in hanging]
        mails = [asyncio.create_task(connected_socket(host, 25, (), 2.0)) for host in hanging]
        async with asyncio.timeout(1.5):
            while not server.asked.keys() >= {(host, A) for host in hanging}:  # noqa: ASYNC110 - c-ares's thread sets no event
                await asyncio.sleep(0.01)
            assert await asyncio.to_thread(len, "a file is written") == 17
            assert await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
            assert [found[4] for found in await look_up("answers.example", 443)] == [(PUBLIC, 443)]
        assert await asyncio.gather(*links) == [Failure("timeout")] * 30
        for ended in await asyncio.gather(*mails, return_exceptions=True):
            assert isinstance(ended, TimeoutError)


async def test_more_lookups_than_may_hang_are_refused_and_work_again_later(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.names = {"hangs.example": Name(after=None)}
    monkeypatch.setattr(dns, "_free_lookups", asyncio.Semaphore(2))
    waiting = [asyncio.create_task(look_up("hangs.example", 443)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="too many names"):
        await look_up("127.0.0.1", 443)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert (await look_up("127.0.0.1", 443))[0][4][:2] == ("127.0.0.1", 443)


async def test_a_name_is_found_that_its_name_server_must_first_ask_others_for(server: NameServer) -> None:
    server.names = {f"{n}.example": Name((PUBLIC,)) for n in range(10)} | {"slow.example": Name((PUBLIC,), after=2.0)}
    for n in range(10):  # c-ares learns that this server usually answers at once
        await look_up(f"{n}.example", 443)
    assert [found[4] for found in await look_up("slow.example", 443)] == [(PUBLIC, 443)]
    assert server.asked["slow.example", A] > 3


async def test_a_name_without_an_address_or_an_answer_is_an_error_of_the_network(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.names = {"hangs.example": Name(after=None), "only-mail.example": Name()}
    for unknown in ("unknown.example", "only-mail.example", "fe80::1%lo", ""):
        with pytest.raises(socket.gaierror) as error:
            await look_up(unknown, 443)
        assert error.value.errno == socket.EAI_NONAME, unknown
    monkeypatch.setattr(dns, "LONGEST", 0.1)
    with pytest.raises(socket.gaierror) as error:
        await look_up("hangs.example", 443)
    assert error.value.errno == socket.EAI_AGAIN
    with pytest.raises(UnicodeError):
        await look_up(f"{'x' * 64}.example", 443)


async def test_the_addresses_that_are_checked_are_the_answers_of_the_name_server(server: NameServer) -> None:
    server.names = {"inside.example": Name(("10.0.0.7", "::1")), "both.example": Name((PUBLIC, "2001:4860:4860::8888"))}
    async with Fetcher((), Limits(1, 1, 1, ("*/*",))) as fetcher:
        assert await fetcher.fetch(_link("inside.example"), io.BytesIO(), 5.0) == Failure("not_allowed")
    with pytest.raises(PrivateAddressError):
        await connected_socket("inside.example", 25, (), 5.0)
    assert {found[4] for found in await look_up("both.example", 443)} == {
        (PUBLIC, 443),
        ("2001:4860:4860::8888", 443, 0, 0),
    }
    assert [found[0] for found in await look_up("both.example", 443, socket.AF_INET)] == [socket.AF_INET]


@pytest.mark.parametrize(("host", "address"), [("localhost", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::1", "::1")])
async def test_this_machine_needs_no_name_server(server: NameServer, host: str, address: str) -> None:
    assert address in [found[4][0] for found in await look_up(host, 443)]
    assert not server.asked


async def test_the_hosts_file_comes_before_the_name_servers(server: NameServer) -> None:
    """With whatever the file of this machine names beyond localhost."""
    with open("/etc/hosts", encoding="utf-8") as lines:  # noqa: ASYNC230
        entries = [line.partition("#")[0].split() for line in lines]
    named = [(entry[0], name) for entry in entries for name in entry[1:] if "localhost" not in name]
    for address, name in named:
        assert address in [found[4][0] for found in await look_up(name, 443)]
    assert not server.asked


def test_each_loop_of_a_process_has_a_resolver() -> None:
    for _ in range(2):
        assert asyncio.run(look_up("localhost", 80))
