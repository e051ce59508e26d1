"""Who wrote a mail to whom, and what it answers: addresses and message ids out of headers. Pure; never raises."""

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
LONGEST_ID = 250  # characters; longer ones are no use in a header that must not be broken
_MESSAGE_ID: Final = re.compile(rf"<[!-;=?-~]{{1,{LONGEST_ID - 2}}}>")
_ANGLED: Final = re.compile(r"<([^\s<>@]{1,64}@[^\s<>@]{1,253})>")
_OWN: Final = re.compile(r"<?palomar\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@", re.I)


def people(header: str) -> list[tuple[str, Address]]:
    """Names and addresses of a From, To or Cc, in their order; what is none is left out."""
    given = header[:_LONGEST_LIST]
    try:
        pairs = getaddresses([given])
    except (RecursionError, IndexError):  # brackets in brackets in brackets
        pairs = [("", found) for found in re.findall(r"[^\s<>]{1,64}@[^\s<>]{1,255}", given)]
    read = ((words(name)[:200], addresses.email(address)) for name, address in pairs[:MOST_RECIPIENTS])
    found = [(name, address) for name, address in read if address is not None]
    if not found:  # commas and brackets where none may be; what stands in angle brackets is meant all the same
        bare = (addresses.email(address) for address in _ANGLED.findall(given)[:MOST_RECIPIENTS])
        found = [("", address) for address in bare if address is not None]
    return found


def message_ids(header: str) -> list[str]:
    """The message ids of a Message-ID, In-Reply-To or References, in their order."""
    return _MESSAGE_ID.findall(header)


def thread_of(references: Sequence[str], answered: Sequence[str]) -> list[str]:
    """A thread's message ids, oldest first, each once; of a long one the first and the newest."""
    every = list(dict.fromkeys((*references, *answered)))
    return every if len(every) <= MOST_REFERENCES else [every[0], *every[1 - MOST_REFERENCES :]]


def own_message_id(message_id: UUID, domain: str) -> str:
    """The Message-ID of a message of ours; `own_id` reads it again."""
    return f"<palomar.{message_id}@{domain}>"


def own_id(text: str) -> UUID | None:
    """Our message id out of the first Message-ID in a text that we made; None where there is none."""
    found = _OWN.search(text)
    return UUID(found[1]) if found else None
