"""Rules for customers' files: states, reasons why a file has no copy, retries, and limits of size and type. No I/O."""

import mimetypes
from base64 import b64decode
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal
from urllib.parse import unquote, urlsplit
from uuid import UUID

from shared.domain.model import Media
from shared.resilience.backoff import Backoff
from shared.settings import Settings

FileKind = Literal["image", "audio", "video", "file"]
Status = Literal["wanted", "stored", "refused", "expired", "failed"]

Reason = Literal[
    "gone",  # 410, and 404 more than once: the provider has deleted it
    "forbidden",  # 401, 403
    "rejected",  # any other answer that another try would not change
    "not_allowed",  # an address we don't call: not https, or not of the public network
    "too_large",
    "wrong_type",
    "wrong_hash",  # the bytes don't have the provider's hash
    "no_source",  # the message names neither a link nor an id
    # These are tried again, a bounded number of times.
    "throttled",
    "server_error",
    "timeout",
    "unreachable",
    "cut_off",
    "unreadable",  # the provider's answer is not one of its API
    "credentials",  # the channel's can't be read
    "store",  # our own blob store failed
]

REFUSED: Final[frozenset[Reason]] = frozenset(
    ("forbidden", "rejected", "not_allowed", "too_large", "wrong_type", "wrong_hash", "no_source")
)

NOT_FOUND_TRIES: Final = 4  # some two minutes: a provider may announce a file before all of its servers have it
LONGEST_WAIT: Final = 3600.0  # seconds between two tries


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a try failed; `retry_after` are the seconds that the server asked for. With `gone`, the file may only not be
    there yet, unless `certain`."""

    reason: Reason
    retry_after: float | None = None
    certain: bool = True

    def ends_after(self, attempts: int, most: int) -> Status | None:
        """The file's final state after so many attempts, of at most `most`; None where another try may help."""
        if self.reason in REFUSED:
            return "refused"
        if self.reason == "gone" and (self.certain or attempts >= min(most, NOT_FOUND_TRIES)):
            return "expired"
        return "failed" if attempts >= most else None


def of_status(status: int, retry_after: float | None = None) -> Failure | None:
    """What an HTTP status means for the file; None for a success."""
    if 200 <= status < 300 and status != 206:
        return None
    match status:
        case 404:
            return Failure("gone", certain=False)
        case 410:
            return Failure("gone")
        case 401 | 403:
            return Failure("forbidden")
        case 408 | 425:
            return Failure("timeout")
        case 429:
            return Failure("throttled", retry_after)
    return Failure("server_error", retry_after) if status >= 500 else Failure("rejected")


def wait_after(failure: Failure, attempts: int, first: float, roll: float | None = None) -> float:
    """Seconds until the next try after `attempts`: longer each time, and never shorter than the server asked for.

    `roll` in [0, 1) replaces chance in tests.
    """
    plain = Backoff(first=first, longest=LONGEST_WAIT, factor=3.0).delay(attempts, roll)
    return max(plain, min(failure.retry_after or 0.0, LONGEST_WAIT))


def digest_of(written: str | None) -> bytes | None:
    """A SHA-256 as a provider writes it, in hex or base64; None where it is none."""
    if written is None:
        return None
    text = written.strip()
    try:
        digest = bytes.fromhex(text) if len(text) == 64 else b64decode(text.translate(_URL_SAFE), validate=True)
    except ValueError:
        return None
    return digest if len(digest) == 32 else None


_URL_SAFE: Final = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class Limits:
    """Accepted files: most bytes by kind, and types as patterns (`image/*`)."""

    image: int
    audio: int
    other: int
    types: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        types = tuple(pattern.lower() for pattern in settings.media_types)
        return cls(settings.media_image_limit, settings.media_audio_limit, settings.media_limit, types)

    def size(self, mime_type: str | None) -> int:
        """Most bytes of a file of this type."""
        match plain_type(mime_type).partition("/")[0]:
            case "image":
                return self.image
            case "audio":
                return self.audio
        return self.other

    def allow(self, mime_type: str | None) -> bool:
        """Whether a file of this type is accepted; without a type, it is."""
        named = plain_type(mime_type)
        return not named or any(fnmatchcase(named, pattern) for pattern in self.types)


def plain_type(mime_type: str | None) -> str:
    """`audio/ogg; codecs=opus` → `audio/ogg`; empty where there is none."""
    return (mime_type or "").partition(";")[0].strip().lower()


def message_type(part: Media) -> FileKind:
    """What a message with this file is, by the type of the file or the ending of its name."""
    return file_kind(part.mime_type or mimetypes.guess_type(part.filename or name_of(part.url, None))[0])


def file_kind(mime_type: str | None) -> FileKind:
    """What a file of this type is to its reader."""
    match plain_type(mime_type).partition("/")[0]:
        case "image":
            return "image"
        case "audio":
            return "audio"
        case "video":
            return "video"
    return "file"


def name_of(url: str | None, mime_type: str | None) -> str:
    """A name for a file without one: the last part of its URL, with the ending of its type."""
    try:
        path = urlsplit(url or "").path
    except ValueError:
        path = ""
    name = unquote(path).rpartition("/")[2].strip()[-100:] or "file"
    return name if "." in name else name + (mimetypes.guess_extension(plain_type(mime_type)) or "")


def key_of(tenant_id: UUID, sha256: bytes) -> str:
    """The key of a tenant's file with this hash in the blob store."""
    name = sha256.hex()
    return f"{tenant_id}/{name[:2]}/{name}"
