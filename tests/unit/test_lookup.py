"""A name that hangs, of a link or of a mail server, holds up nobody who asks for another one."""

import asyncio
import io
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from shared.domain.media import Failure, Limits
from shared.media.download import Fetcher
from shared.net import dns
from shared.net.dns import look_up
from shared.providers.email.smtp_connect import connected_socket
from shared.providers.media_source import Direct, Get


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The system's resolver does not answer for names below hangs.example, until the event is set."""
    answers, real = threading.Event(), socket.getaddrinfo

    def resolver(host: Any, *arguments: Any, **more: Any) -> Any:
        if str(host).endswith("hangs.example"):
            answers.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return real(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield answers
    answers.set()


async def test_names_that_hang_leave_a_process_its_other_names_and_files(hanging: threading.Event) -> None:
    async with Fetcher((), Limits(1, 1, 1, ("*/*",))) as fetcher:
        links = [
            asyncio.create_task(fetcher.fetch(Direct(Get(f"https://{n}.hangs.example/")), io.BytesIO(), 1.0))
            for n in range(30)
        ]
        mails = [asyncio.create_task(connected_socket(f"{n}.hangs.example", 25, (), 1.0)) for n in range(30)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(0.5):
            assert await asyncio.to_thread(len, "a file is written") == 17
            assert await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
            assert await look_up("127.0.0.1", 80)
        assert await asyncio.gather(*links) == [Failure("timeout")] * 30
        for ended in await asyncio.gather(*mails, return_exceptions=True):
            assert isinstance(ended, TimeoutError)


async def test_more_lookups_than_may_hang_are_refused_and_work_again_later(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "_free_lookups", threading.BoundedSemaphore(2))
    waiting = [asyncio.create_task(look_up("hangs.example", 443)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="too many names"):
        await look_up("127.0.0.1", 443)
    hanging.set()
    for ended in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(ended, socket.gaierror)
    assert (await look_up("127.0.0.1", 443))[0][4][:2] == ("127.0.0.1", 443)


async def test_a_name_that_is_none_is_an_error_of_the_network() -> None:
    with pytest.raises(OSError, match=r".+"):
        await look_up("nobody.invalid", 443)


async def test_a_system_that_has_no_thread_left_costs_no_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        for _ in range(dns.AT_ONCE + 1):
            with pytest.raises(OSError, match="can't start new thread"):
                await look_up("localhost", 80)
    assert await look_up("localhost", 80)
