"""Consents for an operator: reads a contact's ledger, adds an entry to it, and sets a tenant's words."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, get_args
from uuid import UUID

from ops.errors import Problem
from shared import database
from shared.actions import consents as consenting
from shared.domain import consents
from shared.domain.model import ChannelKind, ConsentScope, ConsentState
from shared.store import consents as ledger
from shared.store.consents import Entry, LedgerEntry
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
    scopes: Sequence[ConsentScope] = ("marketing",) if marketing else ("all",)
    if state == "opted_in" and not marketing:
        scopes = ("all", "blocked")
    async with pool.acquire() as connection, connection.transaction():
        await consenting.write(
            connection,
            [
                Entry(
                    tenant_id=person.tenant_id,
                    contact_id=person.contact_id,
                    channel_kind=kind,
                    state=state,
                    source="api",
                    at=datetime.now(UTC),
                    scope=scope,
                    evidence={"by": "operator", "reason": reason} if reason else {"by": "operator"},
                )
                for scope in scopes
            ],
        )


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
