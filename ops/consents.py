"""Consents for an operator: reads a contact's ledger, adds an entry to it, and sets a tenant's words."""

from collections.abc import Mapping
from typing import Final, get_args
from uuid import UUID

from ops.errors import Problem
from shared import database
from shared.actions import consents as actions
from shared.actions.consents import Wish
from shared.domain import consents
from shared.domain.model import ChannelKind, ConsentState
from shared.store import consents as ledger
from shared.store.consents import LedgerEntry
from shared.store.erasure import Person

KINDS: Final[tuple[ChannelKind, ...]] = get_args(ChannelKind)
SHOWN: Final = 50  # entries of one contact


def kind_of(named: str | None) -> ChannelKind:
    """Raises Problem that names the kinds there are."""
    found = next((kind for kind in KINDS if kind == named), None)
    if found is None:
        what = f"--kind: {named!r} is none." if named else "--kind is missing: it says of which channels."
        raise Problem(what, f"Name one of: {', '.join(KINDS)}.")
    return found


def state(opted_in: bool) -> ConsentState:
    return "opted_in" if opted_in else "opted_out"


async def enter(
    pool: database.Pool, person: Person, kind: ChannelKind, state: ConsentState, *, marketing: bool, reason: str
) -> None:
    """Add what a contact has asked an operator for, as of now. An opt-in to everything also ends a block."""
    evidence = {"by": "operator", "reason": reason} if reason else {"by": "operator"}
    wish = Wish(person.tenant_id, person.contact_id, kind, state, marketing, evidence)
    async with pool.acquire() as connection, connection.transaction():
        await actions.enter(connection, wish)


async def entries(pool: database.Pool, person: Person) -> list[LedgerEntry]:
    """The newest entries of a contact."""
    return await ledger.ledger(pool, person.tenant_id, person.contact_id, SHOWN)


def words_of(settings: Mapping[str, object] | None, source: str) -> dict[str, list[str]]:
    """All words of such settings by what they change. Raises Problem that names each wrong field."""
    try:
        words = consents.words_of(settings)
    except ValueError as error:
        raise Problem(f"{error}.", f"Mend {source}; nothing was changed.") from None
    return {
        state if scope == "all" else f"{state} of {scope}": sorted(
            phrase for phrase, change in words.meaning.items() if (change.state, change.scope) == (state, scope)
        )
        for scope in ("all", "marketing")
        for state in get_args(ConsentState)
    }


async def set_words(pool: database.Pool, tenant_id: UUID, settings: Mapping[str, object] | None) -> None:
    """Give a tenant these words, or with None the defaults; check them with `words_of` before."""
    await ledger.set_settings(pool, tenant_id, settings)
