"""The spool keeps every webhook it acknowledged, whatever happens to the process or the disk."""

import asyncio
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingress.receive.spool import Spool
from ingress.receive.spool_file import Row, SpoolFile
from ingress.receive.spool_files import SpoolFailed, SpoolFull, SpoolRefused

LIMIT = 50 * 1024 * 1024


@asynccontextmanager
async def spooling(folder: Path, limit: int = LIMIT) -> AsyncIterator[Spool]:
    spool = Spool(folder, limit=limit)
    await spool.maintain()
    try:
        yield spool
    finally:
        await spool.close()


async def drained(spool: Spool, count: int = 100, size: int = 10**6) -> list[bytes]:
    """Take everything out, as ingress does when the broker is back."""
    messages: list[bytes] = []
    while batch := await spool.oldest(count, size):
        messages += [row.message for row in batch.webhooks]
        await spool.remove(batch.file, [row.id for row in batch.webhooks])
    return messages


async def refusal(spool: Spool, message: bytes) -> type[SpoolRefused] | None:
    try:
        await spool.put(Row(1, b"", message))
    except SpoolRefused as refused:
        return type(refused)
    return None


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.db*"))


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def damage(folder: Path) -> None:
    """Overwrite all but the first two pages."""
    (path,) = folder.glob("*.db")
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xaa" * (len(content) - 8192))


# A process that acknowledges webhooks on its standard output for as long as it lives.
WRITER = """
import asyncio, sys, time
from pathlib import Path
from ingress.receive.spool import Spool
from ingress.receive.spool_file import Row, SpoolFile

async def write(spool, lane):
    for number in range(10**9):
        name = f"{lane}-{number}"
        await spool.put(Row(time.time(), b"", name.encode()))
        sys.stdout.write(name + "\\n")
        sys.stdout.flush()

async def main():
    spool = Spool(Path(sys.argv[1]), limit=10**9)
    await spool.maintain()
    await asyncio.gather(*(write(spool, lane) for lane in range(8)))

asyncio.run(main())
"""


def start_writer(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)


async def test_webhooks_come_out_as_they_went_in_and_in_order(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        messages = [b'{"body":"%d \\u0000"}' % number for number in range(25)]
        for number, message in enumerate(messages):
            await spool.put(Row(1_700_000_000 + number, b"", message))
        assert spool.depth() == 25
        assert spool.oldest_age() == pytest.approx(time.time() - 1_700_000_000, abs=5)
        assert await drained(spool, count=10) == messages
        assert (spool.depth(), spool.oldest_age()) == (0, 0)


async def test_webhooks_that_arrive_together_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    add = SpoolFile.add

    def count(self: SpoolFile, rows: Sequence[Row]) -> None:
        commits.append(len(rows))
        add(self, rows)

    monkeypatch.setattr(SpoolFile, "add", count)
    async with spooling(tmp_path) as spool:
        for number in range(5):
            await spool.put(Row(1, b"", b"%d" % number))
        assert commits == [1] * 5
        await asyncio.gather(*(spool.put(Row(1, b"", b"%d" % number)) for number in range(2000)))
        assert len(commits) <= 5 + 4
        assert sum(commits) == spool.depth() == 2005


async def test_a_batch_is_bounded_in_bytes_but_never_empty(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        for _ in range(3):
            await spool.put(Row(1, b"", b"x" * 400))
        for size, count in ((1000, 2), (800, 2), (799, 1), (1, 1)):
            batch = await spool.oldest(100, size)
            assert batch is not None
            assert len(batch.webhooks) == count


async def test_everything_acknowledged_survives_kill_9_and_is_adopted_by_the_next_process(tmp_path: Path) -> None:
    writer = start_writer(tmp_path)
    assert writer.stdout is not None
    acknowledged = [writer.stdout.readline().strip() for _ in range(300)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += writer.stdout.read().split("\n")[:-1]  # the last line may be cut
    writer.wait()
    writer.stdout.close()
    async with spooling(tmp_path) as spool:
        kept = [message.decode() for message in await drained(spool)]
    assert len(acknowledged) >= 300
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept))
    assert names(tmp_path) == []


async def test_a_living_process_keeps_its_file_and_loses_it_once_it_is_dead(tmp_path: Path) -> None:
    writer = start_writer(tmp_path)
    assert writer.stdout is not None
    writer.stdout.readline()
    async with spooling(tmp_path) as spool:
        await spool.maintain()
        assert await spool.oldest(1, 1) is None
        writer.kill()
        writer.wait()
        writer.stdout.close()
        await spool.maintain()
        assert spool.depth() > 0
        assert len(await drained(spool)) > 0


async def test_what_is_left_at_an_orderly_stop_waits_for_the_next_start(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        await spool.put(Row(1, b"", b"first"))
    async with spooling(tmp_path) as spool:
        await spool.put(Row(2, b"", b"second"))
        assert await drained(spool) == [b"first", b"second"]
    assert names(tmp_path) == []


async def test_a_damaged_file_is_set_aside_and_hinders_nobody(tmp_path: Path) -> None:
    (tmp_path / "1-1-dead.db").write_bytes(b"this was a database once" * 1000)
    async with spooling(tmp_path) as spool:
        await spool.put(Row(1, b"", b"fresh"))
        assert await drained(spool) == [b"fresh"]
        assert spool.state.unready_reason is None
    assert names(tmp_path) == ["1-1-dead.damaged"]


async def test_damage_found_while_reading_sets_the_file_aside(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        await asyncio.gather(*(spool.put(Row(1, b"", b"old" * 500)) for _ in range(200)))
    damage(tmp_path)
    async with spooling(tmp_path) as spool:
        await spool.put(Row(2, b"", b"fresh"))
        assert (await drained(spool))[-1:] == [b"fresh"]
        assert spool.depth() == 0
    (aside,) = names(tmp_path)
    assert aside.endswith(".damaged")


async def test_a_full_spool_refuses_and_takes_again_once_drained(tmp_path: Path) -> None:
    async with spooling(tmp_path, limit=400_000) as spool:
        outcomes = [await refusal(spool, b"x" * 10_000) for _ in range(50)]
        kept = outcomes.count(None)
        assert set(outcomes) == {None, SpoolFull}
        assert 10 <= kept < 40
        assert spool.bytes() <= 400_000
        assert on_disk(tmp_path) <= 400_000 + 10_000
        assert len(await drained(spool)) == kept
        await spool.put(Row(1, b"", b"x" * 10_000))
        assert spool.state.unready_reason is None


async def test_in_one_group_only_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    async with spooling(tmp_path, limit=200_000) as spool:
        outcomes = await asyncio.gather(
            spool.put(Row(1, b"", b"small")), spool.put(Row(1, b"", b"x" * 300_000)), spool.put(Row(1, b"", b"too")),
            return_exceptions=True,
        )  # fmt: skip
        assert [type(outcome) for outcome in outcomes] == [type(None), SpoolFull, type(None)]
        assert await drained(spool) == [b"small", b"too"]


async def test_the_disk_space_comes_back_after_draining(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        await asyncio.gather(*(spool.put(Row(1, b"", b"x" * 100_000)) for _ in range(100)))
        full = on_disk(tmp_path)
        await drained(spool)
        assert full > 10_000_000
        assert on_disk(tmp_path) < 200_000
        assert spool.bytes() < 200_000


async def test_a_folder_that_cannot_be_made_refuses_and_recovers(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.write_text("a file stands in the way")
    async with spooling(folder) as spool:
        assert spool.state.unready_reason is not None
        with pytest.raises(SpoolFailed):
            await spool.put(Row(1, b"", b"x"))
        folder.unlink()
        await spool.put(Row(1, b"", b"x"))
        assert spool.state.unready_reason is None
        assert await drained(spool) == [b"x"]


def test_a_disk_that_refuses_to_grow_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """The process may write files of 300 kB only: an EFBIG in place of an ENOSPC, and the same path through SQLite."""
    script = """
import asyncio, resource, sys
from pathlib import Path
from ingress.receive.spool import Spool
from ingress.receive.spool_file import Row, SpoolFile
from ingress.receive.spool_files import SpoolFailed

async def main():
    spool = Spool(Path(sys.argv[1]), limit=10**9)
    await spool.maintain()
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    kept, refused = 0, 0
    for _ in range(100):
        try:
            await spool.put(Row(1, b"", b"x" * 10_000))
            kept += 1
        except SpoolFailed:
            refused += 1
    assert spool.state.unready_reason, "there is a reason"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await spool.maintain()
    assert spool.state.unready_reason is None, spool.state.unready_reason
    await spool.put(Row(1, b"", b"after"))
    await spool.close()
    print(kept + 1, refused)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    kept, refused = map(int, done.stdout.splitlines()[-1].split())
    assert refused > 0
    (path,) = tmp_path.glob("*.db")
    database = sqlite3.connect(path)
    assert database.execute("SELECT count(*) FROM webhooks").fetchone() == (kept,)
    database.close()


async def test_a_file_deleted_under_a_running_process_is_not_written_to(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        shutil.rmtree(tmp_path)
        await spool.put(Row(1, b"", b"x"))
    async with spooling(tmp_path) as spool:
        assert await drained(spool) == [b"x"]


async def test_a_webhook_nobody_can_read_is_put_aside_with_its_content(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        await spool.put(Row(1, b"", b"unreadable"))
        await spool.put(Row(2, b"", b"fine"))
        batch = await spool.oldest(10, 1000)
        assert batch is not None
        assert await spool.quarantine(batch.file, batch.webhooks[0])
        await spool.remove(batch.file, [batch.webhooks[0].id])
        assert await drained(spool) == [b"fine"]
    (aside,) = names(tmp_path)
    assert (tmp_path / aside).read_bytes() == b"unreadable"
    assert modes(tmp_path) == {0o600}


async def test_nobody_else_may_read_what_customers_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    umask = os.umask(0o022)
    try:
        async with spooling(folder) as spool:
            await spool.put(Row(1, b"", b"private"))
            assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
            assert modes(folder) == {0o600}
            assert len(names(folder)) == 4  # the database, its log, its index, its lock
    finally:
        os.umask(umask)


async def test_a_cancelled_caller_does_not_hinder_the_others(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        impatient = asyncio.create_task(spool.put(Row(1, b"", b"a")))
        others = [asyncio.create_task(spool.put(Row(1, b"", b"b"))) for _ in range(10)]
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.gather(*others)
        assert (await drained(spool)).count(b"b") == 10
