"""contacts.search: finds contacts by a part of their name or number, or by a whole address."""

from typing import Annotated, Final

from pydantic import Field, StringConstraints, TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.declaration import Example, query
from ingress.api.models import ListInput, Page
from ingress.api.procedures.contacts import EXAMPLE, READ, Contact
from shared.domain import addresses
from shared.domain.model import Address
from shared.store import contact_search
from shared.store.newest_first import Position

FEWEST_DIGITS: Final = 3  # that are looked for in numbers
_POSITION: Final = TypeAdapter(Position)

SearchText = Annotated[str, StringConstraints(min_length=2, max_length=200, strip_whitespace=True)]


class SearchContacts(ListInput):
    text: SearchText = Field(description="A part of a name or number, or a whole number, e-mail address or id.")


class ContactSearchPage(Page):
    contacts: list[Contact]


@query(
    "contacts.search",
    scope=READ,
    examples=[Example({"text": "ana", "limit": 1}, {"contacts": [EXAMPLE], "nextCursor": None})],
)
async def search(call: Call, given: SearchContacts) -> ContactSearchPage:
    """Search for contacts, newest first.

    A whole address finds the contact who has it. Another text is looked for in names, in any case, and its digits in
    phone numbers. One call looks at a bounded number of contacts: a page may hold fewer than `limit`, even none, and
    while `nextCursor` is not null there are more to look at.
    """
    after = cursors.position(call, given, _POSITION)
    if after is None:
        exact = await contact_search.by_address(call.connection, call.tenant_id, _addresses(given.text))
        if exact:
            return ContactSearchPage(contacts=[Contact.of(row) for row in exact], next_cursor=None)
    found = await contact_search.scan(
        call.connection, call.tenant_id, given.text, _digits(given.text), after, given.limit
    )
    next_cursor = None if found.next is None else cursors.behind(call, given, _POSITION, found.next)
    return ContactSearchPage(contacts=[Contact.of(row) for row in found.contacts], next_cursor=next_cursor)


def _addresses(text: str) -> list[Address]:
    """What the text is as a whole address."""
    chat = Address("kommo_chat", text, text)
    found = addresses.person(text)
    return [chat] if found is None else [found, chat]


def _digits(text: str) -> str | None:
    """The digits of a text that may be a part of a number; None where it holds letters or too few digits."""
    digits = "".join(filter(str.isdecimal, text))
    return digits if len(digits) >= FEWEST_DIGITS and not any(map(str.isalpha, text)) else None
