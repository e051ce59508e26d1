"""No endpoint's webhooks fill the spool: what others need stays free, also after a restart."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ingress.receive.spool import Spool
from ingress.receive.spool_file import Row
from ingress.receive.spool_files import DELETE_PAUSE, SpoolFull, SpoolRefused
from ingress.receive.spool_limits import share_out
from tests.support.small_disk import small_disk
from tests.unit.test_spool import drained, spooling

LIMIT = 2_000_000
FLOOD, OTHER, THIRD = b"f" * 16, b"o" * 16, b"t" * 16
MESSAGE = b"x" * 10_000
DISK = 8 * 1024 * 1024  # bytes


@pytest.mark.parametrize(
    ("wanted", "held", "left", "verdicts"),
    [
        ([(FLOOD, 10)], {}, 10, ["stored"]),
        ([(FLOOD, 11)], {}, 10, ["full"]),
        ([(FLOOD, 10)], {FLOOD: 50}, 50, ["stored"]),
        ([(FLOOD, 10)], {FLOOD: 51}, 50, ["share"]),
        ([(OTHER, 10)], {FLOOD: 51}, 50, ["stored"]),
        ([(FLOOD, 10)] * 8, {}, 70, ["stored"] * 4 + ["share"] * 4),  # half, and one that it ends with
        ([(FLOOD, 10)] * 5 + [(OTHER, 10)] * 3, {}, 70, ["stored"] * 4 + ["share"] + ["stored"] * 2 + ["share"]),
        ([(FLOOD, 60), (FLOOD, 10), (OTHER, 10)], {}, 70, ["stored", "share", "stored"]),
        ([(FLOOD, 80), (OTHER, 10)], {}, 70, ["full", "stored"]),
        ([(FLOOD, 10)], {FLOOD: 0}, 0, ["full"]),
        ([], {FLOOD: 1}, 0, []),
    ],
)
def test_an_endpoint_gets_no_more_where_it_has_more_than_is_left(
    wanted: Sequence[tuple[bytes, int]], held: Mapping[bytes, int], left: int, verdicts: Sequence[str]
) -> None:
    assert share_out(wanted, held, left) == verdicts


async def flood(spool: Spool, endpoint: bytes, message: bytes = MESSAGE, most: int = 1000) -> int:
    """Put until one is refused; how many were taken."""
    for count in range(most):
        try:
            await spool.put(Row(1, endpoint, message))
        except SpoolFull:
            return count
    raise AssertionError("nothing was refused")


async def takes(spool: Spool, endpoint: bytes) -> bool:
    try:
        await spool.put(Row(1, endpoint, MESSAGE))
    except SpoolRefused:
        return False
    return True


async def test_a_flood_at_one_endpoint_leaves_room_in_the_spool_for_the_others(tmp_path: Path) -> None:
    async with spooling(tmp_path, limit=LIMIT) as spool:
        first = await flood(spool, FLOOD)
        assert spool.state.unready_reason is None  # others are taken
        assert await takes(spool, OTHER)
        second = await flood(spool, OTHER)
        assert await takes(spool, THIRD)
        assert second > first / 4 > 10
        with pytest.raises(SpoolFull, match="its tenant has more in the spool"):
            await spool.put(Row(1, FLOOD, MESSAGE))
        assert len(await drained(spool)) == first + second + 2
        assert await flood(spool, FLOOD) >= first - 1  # what has left counts no more


async def test_those_of_one_group_share_as_well(tmp_path: Path) -> None:
    async with spooling(tmp_path, limit=LIMIT) as spool:
        many = [spool.put(Row(1, FLOOD, MESSAGE)) for _ in range(300)] + [spool.put(Row(1, OTHER, MESSAGE))]
        *flooded, other = await asyncio.gather(*many, return_exceptions=True)
        assert any(isinstance(outcome, SpoolFull) for outcome in flooded)
        assert other is None


async def test_shares_survive_a_restart(tmp_path: Path) -> None:
    async with spooling(tmp_path, limit=LIMIT) as spool:
        first = await flood(spool, FLOOD)
    async with spooling(tmp_path, limit=LIMIT) as spool:  # which adopts the file
        assert await flood(spool, FLOOD) <= 3  # a file of its own costs a little, and its log is empty
        assert await takes(spool, OTHER)
        batch = await spool.oldest(first // 2, 10**9)
        assert batch is not None
        await spool.remove(batch.file, [row.id for row in batch.webhooks])
        assert await flood(spool, FLOOD) > 10


async def test_a_file_of_a_version_without_shares_is_adopted_and_emptied(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "1-1-old.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(
        "CREATE TABLE webhooks (id integer PRIMARY KEY AUTOINCREMENT, received_at real NOT NULL, message blob NOT NULL)"
    )
    database.executemany("INSERT INTO webhooks (received_at, message) VALUES (1, ?)", [(b"a",), (b"b",), (b"c",)])
    database.close()
    async with spooling(tmp_path, limit=LIMIT) as spool:
        assert await takes(spool, FLOOD)
        assert await drained(spool, count=2) == [b"a", b"b", b"c", MESSAGE]
        assert not (tmp_path / "1-1-old.db").exists()


async def test_on_a_full_disk_the_flood_stops_first_and_its_share_is_free_once_deleted(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", DISK) as disk:
        async with spooling(disk.folder, limit=10**9) as spool:
            count = await flood(spool, FLOOD)
            assert await takes(spool, OTHER)
            disk.fill()
            batch = await spool.oldest(count // 2, 10**9)
            assert batch is not None
            await spool.remove(batch.file, [row.id for row in batch.webhooks])
            assert spool.state.stuck == count // 2  # no DELETE has room: they are confirmed, and still on the disk
            assert not await takes(spool, OTHER)
            disk.free()
            assert not await takes(spool, FLOOD)
            await asyncio.sleep(DELETE_PAUSE)
            await spool.maintain()
            assert spool.state.stuck == 0
            assert await flood(spool, FLOOD) > 10
