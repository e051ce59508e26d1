"""Finds the files of a source's message by the URLs in its columns or metadata, as `messages.media` lists them.

No system's document says where its attachments stand, so any of the usual places is looked into. No I/O.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import orjson

MOST: Final = 20  # of one message
LONGEST_URL: Final = 2048

# Names are compared in lower case without `_` and digits: `MediaUrl0`, `media_url` and `mediaUrls` are one.
_PLACES: Final = frozenset(
    ("media", "mediaurl", "mediaurls", "attachment", "attachments", "attachmenturl", "attachmenturls", "file", "files",
     "fileurl", "fileurls", "image", "imageurl", "video", "videourl", "audio", "audiourl", "document", "documenturl",
     "sticker", "stickerurl", "voice")
)  # fmt: skip
_URLS: Final = frozenset(("url", "link", "href", "uri", "mediaurl", "fileurl", "downloadurl", "contenturl"))
_FACTS: Final[Mapping[str, str]] = {
    "mimetype": "mime_type", "contenttype": "mime_type", "mediacontenttype": "mime_type", "filename": "filename",
    "name": "filename",
}  # fmt: skip
_URL: Final = re.compile(r"https?://\S+", re.IGNORECASE)


def attachments(*holders: Mapping[str, object]) -> list[dict[str, str]]:
    """What these objects name as files, each URL once; the first holder's first."""
    found: dict[str, dict[str, str]] = {}
    for holder in holders:
        for name, value in holder.items():
            if _plain(name) in _PLACES:
                for file in _files(value):
                    found.setdefault(file["url"], file)
    return list(found.values())[:MOST]


def _files(value: object, depth: int = 3) -> Iterator[dict[str, str]]:
    """A URL, an object that has one, or a list of either; also as JSON in a text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return
    if isinstance(value, str):
        if len(value) <= LONGEST_URL and _URL.fullmatch(value.strip()):
            yield {"url": value.strip()}
    elif isinstance(value, list) and depth:
        for part in value:
            yield from _files(part, depth - 1)
    elif isinstance(value, dict) and depth:
        urls = [part for name, part in value.items() if _plain(name) in _URLS and isinstance(part, str)]
        for file in (one for url in urls[:1] for one in _files(url, 0)):
            facts = {_FACTS[_plain(n)]: v[:255] for n, v in value.items() if _plain(n) in _FACTS and isinstance(v, str)}
            yield {**file, **facts}


def _plain(name: str) -> str:
    return re.sub(r"[\W_\d]+", "", name).lower()
