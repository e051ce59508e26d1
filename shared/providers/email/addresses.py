"""Reads addresses and message ids out of a mail's headers. No I/O; never raises."""

import re
from collections.abc import Sequence
from email.utils import getaddresses
from typing import Final
from uuid import UUID

from shared.domain import addresses
from shared.domain.model import Address
from shared.providers.email.text import words

_LONGEST_LIST = 10_000  # characters of one header
MOST_RECIPIENTS = 100
MOST_REFERENCES = 20  # the thread's first message and its newest ones
LONGEST_ID = 250  # characters; a longer one does not fit a header that must not be folded
_MESSAGE_ID: Final = re.compile(rf"<[!-;=?-~]{{1,{LONGEST_ID - 2}}}>")
_ANGLED: Final = re.compile(r"<([^\s<>@]{1,64}@[^\s<>@]{1,253})>")
_OWN: Final = re.compile(r"<?palomar\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@", re.I)


def people(header: str) -> list[tuple[str, Address]]:
    """(name, address) of each mailbox in a From, To or Cc, in order. Anything else is left out."""
    given = header[:_LONGEST_LIST]
    try:
        pairs = getaddresses([given])
    except (RecursionError, IndexError):  # deeply nested brackets
        pairs = [("", found) for found in re.findall(r"[^\s<>]{1,64}@[^\s<>]{1,255}", given)]
    read = ((words(name)[:200], addresses.email(address)) for name, address in pairs[:MOST_RECIPIENTS])
    found = [(name, address) for name, address in read if address is not None]
    if not found:  # misplaced commas and brackets: an address in angle brackets still counts
        bare = (addresses.email(address) for address in _ANGLED.findall(given)[:MOST_RECIPIENTS])
        found = [("", address) for address in bare if address is not None]
    return found


def message_ids(header: str) -> list[str]:
    """The message ids of a Message-ID, In-Reply-To or References, in their order."""
    return _MESSAGE_ID.findall(header)


def thread_of(references: Sequence[str], answered: Sequence[str]) -> list[str]:
    """A thread's message ids, oldest first, each once; of a long thread the first and the newest."""
    every = list(dict.fromkeys((*references, *answered)))
    return every if len(every) <= MOST_REFERENCES else [every[0], *every[1 - MOST_REFERENCES :]]


def own_message_id(message_id: UUID, domain: str) -> str:
    """The Message-ID of a message of ours, from which `own_id` reads our id again."""
    return f"<palomar.{message_id}@{domain}>"


def own_id(text: str) -> UUID | None:
    """The id of our message in the first Message-ID of ours in a text; None where there is none."""
    found = _OWN.search(text)
    return UUID(found[1]) if found else None
