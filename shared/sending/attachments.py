"""Fetches the files that a message carries, for a provider that takes them only inside the message (e-mail).

They are fetched before the message is claimed, so that no lease runs meanwhile. A file that can't be fetched is sent as
a link, as it was given.
"""

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
from shared.providers import provider
from shared.providers.media_source import Direct, Get
from shared.resilience.bulkhead import Bulkhead, BulkheadFull
from shared.settings import Settings

MOST_FILES: Final = 10  # of one message; further ones are sent as links
LONGEST: Final = 10.0  # seconds for all of a message's files
AT_ONCE: Final = 2  # messages with files in memory, in one process; at most one of a channel
PATIENCE: Final = 5.0  # seconds that a message waits for others to leave'
_PAGES: Final = ("text/html", "application/xhtml+xml")  # a link to a web page is not a file


class AttachmentMemoryFullError(Exception):
    """As many messages' files are in memory as may be; there is room once they are sent."""


class Attachments:
    """The attachments of one process's messages, within a bound of memory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bulkhead = Bulkhead(1)
        self._room = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def attached(self, channel: Channel, message: Outgoing) -> AsyncIterator[Outgoing]:
        """The message with its files attached, up to its provider's limit. They are in memory until the block ends.

        Raises AttachmentMemoryFullError.
        """
        most = provider(channel.provider).max_attachment_bytes
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
                raise AttachmentMemoryFullError from None
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
        """The file of a link; None where it is not a file, too large, not allowed, or does not come in time."""
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
