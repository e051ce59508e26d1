"""contacts.import: a file that breaks off, or comes twice at once, goes in once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import aiohttp
import pytest

from shared.actions import contact_uploads
from shared.settings import Settings
from tests.ingress.api.test_api_contact_imports import stored
from tests.support.api import ApiStage, Tenant, serving
from tests.support.contact_files import OUTCOMES, PATH, counted, done, many, send
from tests.support.live import Process
from tests.support.ports import free_port
from tests.support.processes import quick


async def part_of(file: bytes, size: int, gate: asyncio.Event) -> AsyncIterator[bytes]:
    """The beginning of a file; the rest never comes, and the connection breaks once the gate is open."""
    yield file[:size]
    await gate.wait()
    raise ConnectionResetError


async def begin(url: str, whose: Tenant, file: bytes, size: int, gate: asyncio.Event, key: str) -> None:
    """Send the beginning of a file, until the gate opens."""
    headers = {"Authorization": f"Bearer {whose.key}", "Content-Type": "text/csv", "Idempotency-Key": key}
    with suppress(aiohttp.ClientError, ConnectionError):
        async with aiohttp.ClientSession() as session:
            await session.post(f"{url}{PATH}", data=part_of(file, size, gate), headers=headers)


async def until_some(api: ApiStage, whose: Tenant) -> dict[str, Any]:
    """The tenant's import, once some of its rows are in."""
    async with asyncio.timeout(20):
        while True:
            answer = await api.get("/v1/contacts/imports", whose)
            if answer.status == 200 and answer.body["imports"] and answer.body["imports"][0]["lines"]:
                found: dict[str, Any] = answer.body["imports"][0]
                return found
            await asyncio.sleep(0.05)


async def test_a_file_whose_client_has_left_goes_on_when_it_comes_again(api: ApiStage) -> None:
    ana = await api.tenant()
    file, gate = many(1_600).replace(b"0@example.com\n", b"0@example.com\n\n\n"), asyncio.Event()
    broken = asyncio.create_task(begin(f"http://127.0.0.1:{api.port}", ana, file, len(file) // 2, gate, "mine"))
    so_far = await until_some(api, ana)
    gate.set()
    await broken
    assert so_far["status"] == "running"
    other = await send(api, ana, many(1_600, begin=5), importId=so_far["id"])
    assert (other.status, other.problem, other.pointers) == (400, "invalid-input", ["#/file"])
    shorter = await send(api, ana, b"\n".join(file.split(b"\n")[:100]), importId=so_far["id"])
    assert "differs" in shorter.body["detail"]
    options = await send(api, ana, file, importId=so_far["id"], existing="keep")
    assert options.pointers == ["#/existing"]
    format_ = await send(api, ana, file, "application/x-ndjson", importId=so_far["id"])
    assert format_.pointers == ["#/importId"]
    mismatch = await send(api, ana, file, existing="fill", headers={"Idempotency_Key": "mine"})
    assert (mismatch.status, mismatch.problem) == (422, "idempotency-mismatch")
    imported = await done(api, ana, file, headers={"Idempotency_Key": "mine"})
    assert imported["id"] == so_far["id"]
    assert counted(imported, *OUTCOMES) == (1_600, 0, 0, 0)
    assert imported["lines"] == file.count(b"\n")
    assert await done(api, ana, file, headers={"Idempotency_Key": "mine"}) == imported
    assert await done(api, ana, b"", importId=imported["id"]) == imported
    names = [event["name"] for event in await api.events(ana, "contact")]
    assert names == ["contact.created"] * 1_600


async def test_two_uploads_of_one_file_at_once_are_one_import(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_uploads, "BATCH", 20)
    ana, file = await api.tenant(), many(400)
    twins = await asyncio.gather(*(done(api, ana, file, headers={"Idempotency_Key": "mine"}) for _ in range(2)))
    assert twins[0]["id"] == twins[1]["id"]
    assert counted(twins[0], *OUTCOMES) == (400, 0, 0, 0)
    assert len(await api.events(ana, "contact")) == 400


async def test_two_files_at_once_make_no_contact_and_no_group_twice(
    api: ApiStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_uploads, "BATCH", 20)
    ana = await api.tenant()
    backwards = many(400).split(b"\n")
    backwards[1:-1] = reversed(backwards[1:-1])
    both = await asyncio.gather(
        done(api, ana, many(400), groups="Everyone"), done(api, ana, b"\n".join(backwards), groups="Everyone")
    )
    assert sum(one["counts"]["created"] for one in both) == 400
    assert sum(one["counts"]["groupsCreated"] for one in both) == 1
    assert len(await stored(api, ana)) == 400


async def test_an_import_goes_on_after_its_process_was_killed(settings: Settings) -> None:
    own = quick(settings, api_port=free_port(), port=free_port())
    process = Process(own, "ingress", "api")
    async with serving(settings) as api:
        ana, file, gate = await api.tenant(), many(1_600), asyncio.Event()
        try:
            process.start()
            url = f"http://127.0.0.1:{own.api_port}"
            async with aiohttp.ClientSession() as session, asyncio.timeout(30):
                while True:
                    with suppress(aiohttp.ClientError):
                        async with session.get(f"{url}/v1/contacts"):
                            break
                    await asyncio.sleep(0.05)
            broken = asyncio.create_task(begin(url, ana, file, len(file) // 2, gate, "mine"))
            await until_some(api, ana)
            process.end()
            gate.set()
            await broken
        finally:
            process.end()
        imported = await done(api, ana, file, headers={"Idempotency_Key": "mine"})
        assert counted(imported, *OUTCOMES) == (1_600, 0, 0, 0)
        assert len(await api.events(ana, "contact")) == 1_600
