"""Runs an import of contacts from a stream of bytes, with flat memory, and goes on where an earlier try of it ended.

A file that comes again is read from its beginning. Its lines that are done are only compared with those of the first
time, by their SHA-256: another file is refused before anything of it goes in.
"""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from typing import Final

from shared import database
from shared.actions import contact_imports
from shared.actions.contact_imports import Batch, Overtaken
from shared.database import Connection
from shared.domain.contact_files import people
from shared.domain.contact_files.defects import MOST_LINES, MOST_ROWS, Defect, FileRefused
from shared.domain.contact_files.lines import Lines
from shared.domain.contact_files.people import ImportedPerson
from shared.domain.contact_files.rows import Format, Row, rows_of
from shared.store.contact_batches import AddressTaken
from shared.store.contact_imports import ContactImport

Begin = Callable[[], AbstractAsyncContextManager[Connection]]
"""Opens a transaction of the import's tenant, which its end commits."""
Reading = tuple[Row, ImportedPerson | tuple[Defect, ...]]

BATCH: Final = 500  # rows that go in with one transaction, or fewer:
BATCH_BYTES: Final = 256 * 1024
BLANK: Final = 4096  # bytes of blank lines that count as one row
PIECE: Final = 4096  # bytes that are read before other tasks of the process get their turn: some milliseconds


class OtherFile(FileRefused):
    """The file is not the one that the import began with."""

    def __init__(self) -> None:
        super().__init__(
            "The file differs from the one that this import began with.", "Send that one, or begin another import."
        )


class TooManyRows(FileRefused):
    """The file has more rows than an import takes; the rows before are in."""

    def __init__(self) -> None:
        super().__init__(f"A file has at most {MOST_ROWS:,} rows: these are in.", "Send the others as another file.")


class Upload:
    """One try to import a file. Each transaction is short, and leaves the import where the next one begins."""

    def __init__(
        self,
        format_: Format,
        begin: Begin,
        find: Callable[[], Awaitable[ContactImport]],
        *,
        may_group: bool = True,
        advanced: Callable[[ContactImport], None] = lambda _: None,
    ) -> None:
        """`find` finds or makes the import, once the file's beginning has turned out to be readable. Unless it
        `may_group`, lines that name groups are refused. `advanced` is called after each batch with how far it is."""
        self._begin = begin
        self._find = find
        self._may_group = may_group
        self._advanced = advanced
        self._rows = rows_of(format_)
        self._stored: ContactImport | None = None
        self._hash = sha256()  # of the rows that are done, also in an earlier try
        self._line = 0  # where those end
        self._seen = 0  # rows in all
        self._blank: Row | None = None  # lines without a row, which have come since the last one
        self._batch: list[Reading] = []
        self._size = 0  # of the batch, in bytes

    @property
    def ignored(self) -> list[str]:
        """The names of columns that are not imported."""
        return list(self._rows.ignored)

    async def run(self, file: AsyncIterable[bytes]) -> ContactImport:
        """Import the file. Raises FileRefused, and whatever reading the file raises: what is in by then stays."""
        lines = Lines()
        async for chunk in file:
            for place in range(0, len(chunk), PIECE):
                await self._take_all(self._rows.feed(lines.feed(chunk[place : place + PIECE])))
                await asyncio.sleep(0)
        await self._take_all(self._rows.feed(lines.end()))
        await self._take_all(self._rows.end())
        await self._take_blank()
        if self._stored is None:
            raise FileRefused("The file is empty.", "Send a line for each contact.")
        await self._flush()
        return await self._complete()

    async def _take_all(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.cells is not None or row.defects:
                await self._take_blank()
                self._seen += 1
                await self._take(row)
            else:
                before = self._blank
                self._blank = row if before is None else Row(before.first, row.last, before.raw + row.raw)
                if len(self._blank.raw) >= BLANK:
                    await self._take_blank()

    async def _take_blank(self) -> None:
        if self._blank is not None:
            row, self._blank = self._blank, None
            await self._take(row)

    async def _take(self, row: Row) -> None:
        stored = self._stored = self._stored or await self._find()
        if self._seen > MOST_ROWS or row.last > MOST_LINES:
            await self._flush()
            raise TooManyRows
        self._compare_or_read(row, stored)
        if len(self._batch) >= BATCH or self._size >= BATCH_BYTES:
            await self._flush()

    def _compare_or_read(self, row: Row, stored: ContactImport) -> None:
        """Compare a row that is done, or read one that is not."""
        if row.last <= stored.lines:
            self._hash.update(row.raw)
            self._line = row.last
            if row.last == stored.lines and self._hash.digest() != stored.digest:
                raise OtherFile
            return
        if self._line < stored.lines and not self._batch:
            raise OtherFile
        self._batch.append((row, self._read(row, stored.options.default_country)))
        self._size += len(row.raw)

    def _read(self, row: Row, country: str | None) -> ImportedPerson | tuple[Defect, ...]:
        """The person of a row, or what is wrong with it: nothing of either for the header and blank lines."""
        if row.cells is None:
            return row.defects
        person = people.read(row.first, row.cells, country)
        if isinstance(person, ImportedPerson) and person.groups and not self._may_group:
            return (Defect(row.first, "groups", "groups_forbidden"),)
        return person

    async def _flush(self) -> None:
        """Put the batch in. Where another upload of the file has gone on meanwhile, the rest of it."""
        while self._batch:
            readings, self._batch, self._size = self._batch, [], 0
            try:
                await self._put_in(readings)
            except Overtaken as overtaken:
                self._stored = overtaken.stored
                for row, _ in readings:
                    if row.last > self._line:
                        self._compare_or_read(row, overtaken.stored)

    async def _put_in(self, readings: Sequence[Reading]) -> None:
        """Rows in one transaction; in several where PostgreSQL takes a row by no means, which costs the others
        nothing."""
        try:
            await self._put_in_at_once(readings)
        except Exception as error:
            if not database.is_unstorable(error):
                raise
            if len(readings) == 1:
                row = readings[0][0]
                await self._put_in_at_once([(row, (Defect(row.first, None, "unstorable"),))])
                return
            middle = len(readings) // 2
            await self._put_in(readings[:middle])
            await self._put_in(readings[middle:])

    async def _put_in_at_once(self, readings: Sequence[Reading]) -> None:
        hash_ = self._hash.copy()
        for row, _ in readings:
            hash_.update(row.raw)
        batch = Batch(
            people=[(row.first, reading) for row, reading in readings if isinstance(reading, ImportedPerson)],
            defects=[one for _, reading in readings if not isinstance(reading, ImportedPerson) for one in reading],
            lines=readings[-1][0].last,
            digest=hash_.digest(),
        )
        stored = self._stored
        assert stored is not None, "there is a row"

        async def transaction() -> ContactImport:
            async with self._begin() as connection:
                return await contact_imports.put_in(connection, stored.tenant_id, stored.id, batch, self._line)

        self._stored = await _repeat(transaction)
        self._hash, self._line = hash_, batch.lines
        self._advanced(self._stored)

    async def _complete(self) -> ContactImport:
        stored = self._stored
        assert stored is not None, "there is a row"
        if self._line < stored.lines:
            raise OtherFile
        try:
            async with self._begin() as connection:
                return await contact_imports.complete(connection, stored.tenant_id, stored.id, self._line)
        except Overtaken:
            raise OtherFile from None


async def _repeat(transaction: Callable[[], Awaitable[ContactImport]]) -> ContactImport:
    for _ in range(database.REPEATS - 1):
        try:
            return await database.repeat(transaction)
        except AddressTaken:
            await asyncio.sleep(0)
    return await database.repeat(transaction)
