"""The files that leave inside a message, for a provider that has no other way to send them: brought before the send is
claimed, so that nothing is owed to anybody while they come. What can't be brought leaves as a link, as it was given."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from io import BytesIO
from typing import Final

from shared.domain.channels import Channel
from shared.domain.media import Failure, Limits, name_of
from shared.domain.model import File, Media, Outgoing
from shared.media.download import Fetcher
from shared.providers import traits
from shared.providers.media_source import Direct, Get
from shared.resilience.bulkhead import Bulkhead, BulkheadFull
from shared.settings import Settings

MOST_FILES: Final = 10  # of one message; more leave as links
LONGEST: Final = 10.0  # seconds for all of a message's files
AT_ONCE: Final = 2  # messages with files in memory, of one process; one of a channel's
PATIENCE: Final = 5.0  # seconds that one waits for others'
_PAGES: Final = ("text/html", "application/xhtml+xml")  # what a link leads to that is no file


class NoRoomError(Exception):
    """Others' files are in memory; there is room once they have left."""


class Packing:
    """The files of one process's messages."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bulkhead = Bulkhead(1)
        self._room = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def packed(self, channel: Channel, message: Outgoing) -> AsyncIterator[Outgoing]:
        """The message with as many of its files in it as its provider carries. They are in memory until the block ends.

        Raises NoRoomError.
        """
        most = traits(channel.provider).carries
        if not most or not message.media:
            yield message
            return
        async with self._held(channel):
            yield await self._with_files(message, most)

    @asynccontextmanager
    async def _held(self, channel: Channel) -> AsyncIterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(self._bulkhead.acquire(channel.id))
                async with asyncio.timeout(PATIENCE):
                    await self._room.acquire()
            except (BulkheadFull, TimeoutError):
                raise NoRoomError from None
            stack.callback(self._room.release)
            yield

    async def _with_files(self, message: Outgoing, most: int) -> Outgoing:
        files: list[File] = []
        links: list[Media] = []
        loop = asyncio.get_running_loop()
        until, free = loop.time() + LONGEST, most
        for part in message.media:
            within = until - loop.time()
            file = await self._brought(part, free, within) if len(files) < MOST_FILES and within > 0 else None
            if file is None:
                links.append(part)
            else:
                files.append(file)
                free -= len(file.content)
        return replace(message, media=tuple(links), files=tuple(files))

    async def _brought(self, part: Media, most: int, within: float) -> File | None:
        """The file behind a link; None for what is none, too large, not to be called, or does not come in time."""
        if not part.url or most <= 0:
            return None
        sink = BytesIO()
        source = Direct(Get(part.url), part.sha256, part.mime_type)
        limits = Limits(most, most, most, ("*/*",))
        async with Fetcher(
            self._settings.trusted_origins, limits, self._settings.https_proxy.get_secret_value() or None
        ) as fetcher:
            found = await fetcher.fetch(source, sink, within)
        if isinstance(found, Failure) or found.mime_type in _PAGES:
            return None
        mime_type = found.mime_type or part.mime_type or "application/octet-stream"
        return File(part.filename or name_of(part.url, mime_type), mime_type, sink.getvalue())
