"""Stores files under the hash of their bytes, in a folder or in an S3-compatible bucket.

A file appears under its key only when it is complete. Parts that a killed process left in the folder are deleted with
the file, or when it is written again.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from glob import escape
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from shared.settings import Settings

if TYPE_CHECKING:  # in the stubs only
    from obstore.store import ClientConfig, S3Config

CHUNK: Final = 5 * 1024 * 1024  # bytes; S3 takes no smaller part
PUTS: Final = 4  # files stored at once: each holds two or three chunks in memory
TIMEOUT: Final = 60.0  # seconds of one request to a bucket
STALE: Final = 3600.0  # seconds after which no process is still writing a file

StoreError: Final = (BaseError, OSError)
"""The errors that the store raises; a missing file is a FileNotFoundError."""


class Blobs:
    """Files by key. Every method raises one of StoreError where the store fails."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder
        self._places = asyncio.Semaphore(PUTS)

    @classmethod
    def of(cls, settings: Settings) -> "Blobs":
        """The store that the settings name. Raises ValueError that names the setting."""
        location = settings.media_store
        scheme = urlsplit(location).scheme
        if scheme == "s3":
            return cls(_bucket(settings))
        if scheme:
            raise ValueError(f"PALOMAR_MEDIA_STORE: {scheme}:// is not known; give a folder, or s3://bucket/prefix")
        folder = Path(location) if location else settings.state_dir / "media"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(LocalStore(folder.resolve()), folder.resolve())

    async def put(self, key: str, file: IO[bytes]) -> None:
        """Store a file from its beginning; it is read and sent in chunks."""
        await asyncio.to_thread(file.seek, 0)
        async with self._places:
            await obstore.put_async(self._store, key, file, chunk_size=CHUNK, max_concurrency=1)
        if self._folder is not None:
            await asyncio.to_thread(self._settle, self._folder / key, self._folder)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        """The file's bytes, in chunks. Raises FileNotFoundError where there is none."""
        found = await obstore.get_async(self._store, key)
        async for chunk in found.stream(min_chunk_size=CHUNK // 16):
            yield bytes(chunk)

    async def delete(self, key: str) -> None:
        """Delete a file, if there is one."""
        if self._folder is None:
            # S3 reports a missing file as deleted. What it reports as not found is the bucket, which is an error.
            await obstore.delete_async(self._store, key)
            return
        with contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(self._store, key)
        await asyncio.to_thread(self._sweep, self._folder / key, 0.0)

    def _settle(self, path: Path, folder: Path) -> None:
        """Sync the file and the folders above it to disk: the row that names it must be true after a power cut too."""
        for part in (path, *path.parents[: len(path.relative_to(folder).parts)]):
            opened = os.open(part, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        self._sweep(path, STALE)

    def _sweep(self, path: Path, age: float) -> None:
        """Remove half-written parts older than `age` seconds: they are beside the file, as `name#1`."""
        for half in path.parent.glob(f"{escape(path.name)}#*"):
            if half.stat().st_mtime < time.time() - age:
                half.unlink(missing_ok=True)


def _bucket(settings: Settings) -> S3Store:
    endpoint = settings.media_s3_endpoint
    config: S3Config = {"region": settings.media_s3_region}
    if endpoint:
        config["endpoint"] = endpoint
    if settings.media_s3_key_id:
        config["access_key_id"] = settings.media_s3_key_id
        config["secret_access_key"] = settings.media_s3_secret.get_secret_value()
    options: ClientConfig = {"timeout": timedelta(seconds=TIMEOUT), "allow_http": endpoint.startswith("http://")}
    return S3Store.from_url(settings.media_store, config=config, client_options=options)
