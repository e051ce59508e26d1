"""What is written for as long as its reader takes, files and exports: whole or recognisably not, within bounds."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from io import BytesIO
from uuid import UUID, uuid4

import aiohttp
import pytest

from ingress.api import caller, downloads, exports, files, front
from ingress.api.procedures import messages_history
from shared.database import Connection
from shared.media.blob_store import Blobs
from shared.settings import Settings
from shared.store.messages import history
from shared.store.messages.history import HistoryRecord, Position, Wanted
from tests.support import api_rows
from tests.support.api import ApiStage, Tenant, serving
from tests.support.api_conversations import add_conversation, say

EXPORT = "/v1/messages-history/export.ndjson"
PAGE = "https://console.example.com"


class Pages:
    """The pages that an export reads, here of one message each, with what is awaited before the second one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before_second: Callable[[], Awaitable[object]] | None = None
        self._asked = 0
        self._reached: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._page = history.page
        monkeypatch.setattr(messages_history, "AT_ONCE", 1)
        monkeypatch.setattr(exports, "AT_ONCE", 1)
        monkeypatch.setattr(history, "page", self._read)

    async def _read(self, connection: Connection, tenant_id: UUID, wanted: Wanted, after: Position | None,
                    limit: int) -> tuple[Sequence[HistoryRecord], Position | None]:  # fmt: skip
        self._asked += 1
        self._reached[self._asked].set()
        if after is not None and self.before_second is not None:
            await self.before_second()
        return await self._page(connection, tenant_id, wanted, after, limit)

    async def until(self, asked: int) -> None:
        """Wait until so many pages were asked for."""
        async with asyncio.timeout(10):
            await self._reached[asked].wait()


def bearer(whose: Tenant) -> dict[str, str]:
    return {"Authorization": f"Bearer {whose.key}"}


async def link(api: ApiStage, whose: Tenant, content: bytes) -> str:
    """The path of a link to a file of this content."""
    file_id = await api_rows.file(api, whose, content)
    await Blobs.of(api.settings).put(
        await api.pool.fetchval("SELECT key FROM media WHERE id = $1", UUID(file_id)), BytesIO(content)
    )
    url: str = (await api.get(f"/v1/media/{file_id}/link", whose)).body["url"]
    return url


async def raw(api: ApiStage, path: str) -> tuple[bytes, bytes]:
    """The head and the body of the answer to a GET, as they come until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(20):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return head, body


async def test_a_file_that_breaks_off_has_no_other_bytes_in_it(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await link(api, await api.tenant(), b"a" * 10_000)

    async def breaks(_: Blobs, __: str) -> AsyncIterator[bytes]:
        yield b"aaa"
        raise OSError("the store is gone")

    monkeypatch.setattr(Blobs, "read", breaks)
    head, body = await raw(api, path)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Length: 10000" in head
    assert set(body) <= set(b"a")


async def test_pages_of_named_origins_may_read_files_and_exports(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"api_cors_origins": (PAGE,)})) as api:
        ana = await api.tenant()
        await say(api, ana, await add_conversation(api, ana), "hello")
        for path, whose in ((await link(api, ana, b"a"), None), (EXPORT, ana), ("/v1/live", ana)):
            headers = {"Origin": PAGE} | ({} if whose is None else bearer(whose))
            async with api.client.get(path, headers=headers) as answer:
                assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, PAGE), path
                assert "Origin" in answer.headers.getall("Vary")


async def test_a_download_that_takes_too_long_breaks_off(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LONGEST", 0.2)

    async def slow(_: Blobs, __: str) -> AsyncIterator[bytes]:
        yield b"aaa"
        await asyncio.sleep(60)

    async with serving(settings) as api:
        path = await link(api, await api.tenant(), b"a" * 10_000)
        monkeypatch.setattr(Blobs, "read", slow)
        assert set((await raw(api, path))[1]) <= set(b"a")


async def test_an_export_that_takes_too_long_breaks_off(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "LONGEST_EXPORT", 0.5)
    pages = Pages(monkeypatch)
    async with serving(settings) as api:
        ana = await api.tenant()
        await say(api, ana, await add_conversation(api, ana), "one", "two")
        pages.before_second = asyncio.Event().wait
        with pytest.raises(aiohttp.ClientError):
            await api.get(EXPORT, ana)


@pytest.mark.parametrize("table", ["api_keys", "tenants"])
async def test_an_export_breaks_off_once_its_key_or_tenant_is_gone(
    api: ApiStage, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setattr(caller, "REMEMBERED", 0.0)
    pages = Pages(monkeypatch)
    ana = await api.tenant()
    await say(api, ana, await add_conversation(api, ana), "one", "two")

    async def remove() -> None:
        id_ = ana.key_id if table == "api_keys" else ana.id
        await api.pool.execute(f"UPDATE {table} SET deleted_at = now() WHERE id = $1", id_)

    pages.before_second = remove
    with pytest.raises(aiohttp.ClientError):
        await api.get(EXPORT, ana)


async def test_one_tenants_downloads_and_exports_leave_room_for_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, bound in (
        (downloads, "AGAIN", 0.1),
        (files, "OF_A_TENANT", 1),
        (front, "EXPORTS_OF_A_TENANT", 1),
        (front, "EXPORTS", 2),
    ):
        monkeypatch.setattr(module, name, bound)
    go_on = asyncio.Event()
    read = Blobs.read

    async def slow(store: Blobs, key: str) -> AsyncIterator[bytes]:
        await go_on.wait()
        async for chunk in read(store, key):
            yield chunk

    monkeypatch.setattr(Blobs, "read", slow)
    pages = Pages(monkeypatch)
    pages.before_second = go_on.wait
    async with serving(settings) as api:
        ana, bob, eva = [await api.tenant() for _ in range(3)]
        for whose in (ana, bob):
            await say(api, whose, await add_conversation(api, whose), "one", "two")
        path = await link(api, ana, b"a")
        under_way = [asyncio.create_task(api.get(path, None)), asyncio.create_task(api.get(EXPORT, ana))]
        await pages.until(2)
        busy = await api.get(path, None)
        assert (busy.status, busy.headers["Retry-After"]) == (503, "1")
        assert busy.body["detail"].startswith("This tenant has 1 downloads of files under way")
        assert (await api.get(EXPORT, ana)).body["detail"].startswith("This tenant has 1 exports under way")
        async with api.client.get("/trpc/messagesHistory.export", headers=bearer(ana)) as stream:
            assert "This tenant has 1 exports under way" in await stream.text()
        defects = await api.get("/v1/contacts/import-errors.csv", ana, params={"importId": str(uuid4())})
        assert defects.body["detail"].startswith("This tenant has 1 exports under way"), "it is a file as well"
        under_way.append(asyncio.create_task(api.get(EXPORT, bob)))
        await pages.until(4)
        assert (await api.get(EXPORT, eva)).body["detail"].startswith("Too many exports are under way")
        go_on.set()
        assert [answer.status for answer in await asyncio.gather(*under_way)] == [200] * 3
        assert (await api.get(EXPORT, eva)).status == 200
