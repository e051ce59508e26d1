"""Imports a file of contacts that lies on this machine, as contacts.import of the API does."""

import gzip
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Final, cast
from uuid import UUID

from ingress.api.exports import csv_line
from ops import connections
from ops.errors import Problem
from ops.imports.meter import Meter
from shared.actions import contact_imports as actions
from shared.actions.contact_imports import Asked
from shared.actions.contact_uploads import Upload
from shared.database import Pool, new_id
from shared.domain.contact_files.defects import KINDS, Defect, FileRefused
from shared.domain.contact_files.rows import Format
from shared.store import contact_imports as store
from shared.store.contact_imports import ContactImport

FORMATS: Final[dict[str, Format]] = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson",
}  # fmt: skip
BLOCK: Final = 64 * 1024  # bytes
AT_ONCE: Final = 1_000  # lines of the report


@dataclass(frozen=True, slots=True)
class File:
    """A file that can be read."""

    path: Path
    format: Format
    lines: int
    digest: str  # SHA-256

    @classmethod
    def of(cls, path: Path) -> "File":
        """Read a file once, before anything is done. Raises Problem."""
        format_ = _format_of(path)
        lines, digest, block = 0, sha256(), b""
        for block in _blocks(path):
            lines += block.count(b"\n")
            digest.update(block)
        return cls(path, format_, lines + (not block.endswith(b"\n")), digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file."""

    stored: ContactImport
    ignored: list[str]  # columns
    was_done: bool  # before, so that nothing was to be done now


def _format_of(path: Path) -> Format:
    """The format that a file's name says. Raises Problem."""
    suffixes = path.suffixes[:-1] if path.suffix == ".gz" else path.suffixes
    found = FORMATS.get(suffixes[-1].lower()) if suffixes else None
    if found is None:
        raise Problem(
            f"{path.name} does not say what it is.", f"Name it {', '.join(FORMATS)}, or one of these and .gz."
        )
    return found


async def run(pool: Pool, tenant_id: UUID, file: File, asked: Asked, *, again: bool) -> Imported:
    """Import a file, or go on with it. The same file with the same options is imported once, unless `again`.

    Raises Problem.
    """
    key = f"palomar {file.digest} {asked.hash.hex()} {new_id() if again else ''}"
    async with connections.transaction(pool) as connection:
        before = await actions.with_key(connection, tenant_id, key)
    if before is not None and before.status == "completed":
        return Imported(before, [], was_done=True)

    async def find() -> ContactImport:
        async with connections.transaction(pool) as connection:
            return (await actions.begin(connection, tenant_id, asked, key))[0]

    with Meter() as meter:
        done = 0 if before is None else before.lines
        meter.begin(file.path.name, done, file.lines)

        def advanced(stored: ContactImport) -> None:
            nonlocal done
            meter.advance(stored.lines - done)
            done = stored.lines

        upload = Upload(asked.format, lambda: connections.transaction(pool), find, advanced=advanced)
        try:
            stored = await upload.run(_chunks(file.path))
        except FileRefused as refused:
            raise Problem(refused.detail, refused.remedy) from None
    return Imported(stored, upload.ignored, was_done=False)


async def report(pool: Pool, stored: ContactImport) -> AsyncIterator[Defect]:
    """What is wrong with the lines of an import, in the order of the file."""
    after: Defect | None = None
    while True:
        async with pool.acquire() as connection:
            page = await store.defects(connection, stored.tenant_id, stored.id, after, AT_ONCE)
        for after in page:
            yield after
        if len(page) < AT_ONCE:
            return


def report_line(defect: Defect) -> bytes:
    """A line of the report, as CSV."""
    kind = KINDS[defect.code]
    done = "imported without it" if kind.keeps_line else "refused"
    return csv_line([defect.line, defect.field, defect.code, kind.detail, kind.remedy, done])


REPORT_HEADER: Final = csv_line(["line", "field", "code", "detail", "remedy", "outcome"])


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    for block in _blocks(path):
        yield block


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with _opened(path) as file:
            while block := file.read(BLOCK):
                yield block
    except (OSError, EOFError) as error:
        raise Problem(f"{path} can't be read: {error}.", "Name a file of CSV or NDJSON.") from error


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
