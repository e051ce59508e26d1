"""Runs one import from beginning to end: the source's tables in order, page by page, then the counts of both sides.

A page goes in with one short transaction, which also notes how far the table is: an import that was killed and is run
again goes on behind the last page. Nothing depends on that note but time: a row that is here already stays as it is.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from ops.imports.meter import Meter
from ops.imports.steps import Step, System
from ops.imports.tally import NO_KEY, Compared, Fate, Tally
from ops.imports.target import Target
from ops.imports.values import Reader
from shared import database
from shared.store.imports import progress
from shared.store.imports.progress import Place
from shared.store.imports.source import Found, Row, Source, Table

COUNTED_AT_ONCE = 5_000  # rows; they are keys alone


@dataclass(frozen=True, slots=True)
class Import:
    """What moves, from where, to where. `batch` rows go in with one transaction."""

    system: System
    source: Source
    source_name: bytes
    into: Target
    batch: int
    meter: Meter

    async def run(self) -> list[Compared]:
        """Raises Missing before anything is written, where the source lacks a table or a column."""
        every = [(step, await self.source.find(step.table)) for step in self.system.steps]
        tallies = []
        for step, found in every:
            await step.prepare(self.source, found, self.into)
            tallies.append(await self._move(step, found))
        compared = [
            await self._compare(step, found, tally) for (step, found), tally in zip(every, tallies, strict=True)
        ]
        await progress.forget(self.into.pool, self.system.identity, self.source_name)
        return compared

    # -- rows in ---------------------------------------------------------------------------------------------------

    async def _move(self, step: Step, found: Found) -> Tally:
        place = Place(self.system.identity, self.source_name, step.table.name)
        before = await progress.progress(self.into.pool, place)
        tally = Tally() if before is None else Tally.of(before.tally)
        after: Sequence[str] | None = None if before is None else before.after
        total, _ = await self.source.count(found)
        self.meter.begin(step.table.name, tally.seen, total)
        while rows := await self.source.page(found, after, self.batch):
            tally = await self._write(step, place, self._readers(rows), tally)
            after = _key(step.table, rows[-1])
            self.meter.advance(len(rows))
        return tally

    def _readers(self, rows: Sequence[Row]) -> list[Reader]:
        return [Reader(row, self.into.now) for row in rows]

    async def _write(self, step: Step, place: Place, readers: Sequence[Reader], tally: Tally) -> Tally:
        """A page, or the parts of it that go in: a row that PostgreSQL takes by no means costs the others nothing."""

        async def transaction() -> Tally:
            async with self.into.pool.acquire() as connection, connection.transaction():
                fates = await step.write(connection, readers, self.into)
                sum_ = tally.with_rows(readers, fates)
                await progress.keep(connection, place, _key(step.table, readers[-1].row), sum_.as_json())
                return sum_

        try:
            return await database.repeat(transaction)
        except Exception as error:
            if not database.is_unstorable(error):
                raise
            if len(readers) == 1:
                return await self._skip(step, place, readers[0], tally, error)
        middle = len(readers) // 2
        tally = await self._write(step, place, readers[:middle], tally)
        return await self._write(step, place, readers[middle:], tally)

    async def _skip(self, step: Step, place: Place, reader: Reader, tally: Tally, error: Exception) -> Tally:
        # The error's own words may quote a customer's message.
        fate = Fate(is_new=False, skipped=f"PostgreSQL does not take it ({type(error).__name__})")
        sum_ = tally.with_rows([reader], [fate])
        async with self.into.pool.acquire() as connection:
            await progress.keep(connection, place, _key(step.table, reader.row), sum_.as_json())
        return sum_

    # -- counts ----------------------------------------------------------------------------------------------------

    async def _compare(self, step: Step, found: Found, tally: Tally) -> Compared:
        """Count afresh which of the source's rows lead to one of ours."""
        wanted = {*step.table.key, *step.whose}
        keys = await self.source.find(
            replace(step.table, columns=tuple(c for c in step.table.columns if c.name in wanted), rest=False)
        )
        total, keyless = await self.source.count(found)
        if keyless:
            tally.skipped[NO_KEY] += keyless
        self.meter.begin(f"counting {step.table.name}", 0, total)
        ours = 0
        after: Sequence[str] | None = None
        while rows := await self.source.page(keys, after, COUNTED_AT_ONCE):
            async with self.into.pool.acquire() as connection:
                ours += await step.count(connection, self._readers(rows), self.into)
            after = _key(step.table, rows[-1])
            self.meter.advance(len(rows))
        return Compared(step.table.name, total, ours, tally)


def _key(table: Table, row: Row) -> list[str]:
    return [str(row[name]) for name in table.key]


def name_of(url: str, tenant: object) -> bytes:
    """Identifies a source and the tenant it is imported for; the password is no part of it."""
    parts = urlsplit(url)
    return hashlib.sha256(f"{parts.hostname}:{parts.port}{parts.path}?{parts.query} {tenant}".encode()).digest()
