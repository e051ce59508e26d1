"""The spool on a disk that is full: nothing acknowledged is lost, nothing is published again and again.

The disk is a real one, of a few megabytes. What a run of the spool does is tried again and again, with the disk full
from another statement on.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ingress.receive.spool import Spool
from ingress.receive.spool_file import Row
from ingress.receive.spool_files import SpoolRefused
from tests.support.small_disk import SmallDisk, small_disk

SIZE = 8 * 1024 * 1024  # bytes of the disk: several of a file that is replaced once it is empty
LIMIT = 10**9
READS = ("SELECT", "PRAGMA freelist_count", "PRAGMA page_size")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", SIZE) as disk:
        yield disk


@pytest.fixture
def each_statement(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[str], None]]:
    """Whatever stands in this list is called with every statement that may write, right before SQLite runs it."""
    watchers: list[Callable[[str], None]] = []

    def before(statement: str) -> None:
        if not statement.lstrip().startswith(READS):
            for watcher in watchers:
                watcher(statement)

    class Watched(sqlite3.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.set_trace_callback(before)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
    return watchers


@dataclass
class Story:
    """What was acknowledged, and what was published, by each process that had its turn."""

    acknowledged: set[bytes] = field(default_factory=set)
    published: list[Counter[bytes]] = field(default_factory=list)
    refused: int = 0

    async def put(self, spool: Spool, *messages: bytes) -> None:
        async def one(message: bytes) -> None:
            try:
                await spool.put(Row(1, b"", message))
                self.acknowledged.add(message)
            except SpoolRefused:
                self.refused += 1
            assert spool.depth() >= 0

        await asyncio.gather(*(one(message) for message in messages))

    async def drain(self, spool: Spool, batches: int = 10**6, count: int = 40) -> None:
        """Publish and forget, as ingress does; to the end, or so many batches."""
        for _ in range(batches):
            batch = await spool.oldest(count, 10**6)
            if batch is None:
                return
            self.published[-1].update(row.message for row in batch.webhooks)
            await spool.remove(batch.file, [row.id for row in batch.webhooks])
            assert spool.depth() >= 0
            assert max(self.published[-1].values()) == 1, "published again by the same process"

    def check(self) -> None:
        arrived = sum(self.published, Counter[bytes]())
        assert self.acknowledged <= arrived.keys()
        assert max(arrived.values(), default=1) <= len(self.published)


@asynccontextmanager
async def process(folder: Path, story: Story) -> AsyncIterator[Spool]:
    """A process that has the spool for a while."""
    story.published.append(Counter())
    spool = Spool(folder, limit=LIMIT)
    await spool.maintain()
    yield spool
    await spool.close()


def on_disk(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def rows(name: str, count: int, size: int) -> list[bytes]:
    return [f"{name}-{number}-".encode() + b"x" * size for number in range(count)]


async def live(folder: Path, story: Story) -> None:
    """Two processes, one after the other: put, delete, commit, checkpoint, replace the file, adopt."""
    async with process(folder, story) as spool:
        await story.put(spool, *rows("few", 60, 2_000))
        await story.drain(spool, batches=1)
        await story.put(spool, *rows("many", 150, 8_000))  # more than a file keeps once it is empty
        await story.drain(spool)
        await story.put(spool, *rows("one", 1, 100))
        await story.drain(spool)
        await spool.maintain()
        await story.put(spool, *rows("left", 60, 2_000))
        await story.drain(spool, batches=1)
    async with process(folder, story) as spool:
        await story.put(spool, *rows("more", 10, 2_000))
        await story.drain(spool)
        await story.put(spool, *rows("last", 10, 2_000))


async def room_again(folder: Path, story: Story) -> None:
    async with process(folder, story) as spool:
        await story.put(spool, b"room again")
        assert b"room again" in story.acknowledged
        assert spool.state.unready_reason is None
        await story.drain(spool)
        assert spool.depth() == 0
    assert not any(path.suffix == ".db" for path in on_disk(folder))


@pytest.mark.parametrize("every", [18, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("lasts", [True, False], ids=["until room is made", "for that statement only"])
async def test_full_at_any_statement_nothing_acknowledged_is_lost_or_published_endlessly(
    disk: SmallDisk, each_statement: list[Callable[[str], None]], lasts: bool, every: int
) -> None:
    """At the first statement of each kind, and at every so-manieth of all."""
    statements: list[str] = []
    each_statement[:] = [statements.append]
    await live(disk.folder / "plain", Story())
    kinds = {statement.split()[0] for statement in statements}
    assert {"INSERT", "DELETE", "COMMIT", "BEGIN", "PRAGMA", "CREATE"} <= kinds
    assert any("wal_checkpoint" in statement for statement in statements)
    once = {statement[:25]: number for number, statement in reversed(list(enumerate(statements)))}
    refused = 0
    for number in sorted({*range(0, len(statements), every), *once.values()}):
        left = number

        def fill_at_last(_: str) -> None:
            nonlocal left
            if left == 0:
                disk.fill()
            elif not lasts:
                disk.free()
            left -= 1

        folder, story = disk.folder / str(number), Story()
        each_statement[:] = [fill_at_last]
        try:
            await live(folder, story)
            each_statement.clear()
            disk.free()
            await room_again(folder, story)
            story.check()
        except BaseException as error:
            error.add_note(f"full at statement {number}: {statements[number] if number < len(statements) else '?'}")
            raise
        refused += story.refused
    assert refused > 0
