"""Decides what each row makes of the contacts that are there: never two contacts for one address. No I/O.

A row is of the contact that has its phone number; else of the one that has its e-mail address, unless that one has
another number. Then the row goes in without the address: people share mail addresses, and one person's opt-out must
not silence another. An earlier row of the file counts as a contact that is there, so that it does not matter where one
transaction ends and the next one begins.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

from shared.domain.contact_files.defects import Defect
from shared.domain.contact_files.people import ImportedPerson
from shared.domain.model import Address

Existing = Literal["update", "fill", "keep"]
"""What becomes of a contact that is there. `update`: what the row has replaces what the contact has. `fill`: the row
adds only what the contact lacks. `keep`: it stays as it is, and only gets into groups."""
EXISTING: Final[tuple[Existing, ...]] = ("update", "fill", "keep")
Key = tuple[str, str]  # kind and canonical form of an address


@dataclass(frozen=True, slots=True)
class Known:
    """A contact that has one of the addresses."""

    id: UUID
    phone_number: str | None
    name: str | None
    is_active: bool
    is_deleted: bool
    is_being_erased: bool
    has_phone: bool  # among its addresses


@dataclass(slots=True)
class Draft:
    """A contact that a row is of, as it will be."""

    id: UUID
    before: Known | None  # None: it is new
    phone_number: str | None = None
    name: str | None = None
    is_active: bool = True
    has_phone: bool = False
    is_wanted: bool = False  # by a row; else a row only has an address of it
    new_addresses: list[Address] = field(default_factory=list)
    groups: dict[str, int] = field(default_factory=dict)  # by name, with the first line that names it

    @classmethod
    def of(cls, contact: Known) -> "Draft":
        """A contact that is there, before any row has changed it."""
        return cls(contact.id, contact, contact.phone_number, contact.name, contact.is_active, contact.has_phone)

    @property
    def is_restored(self) -> bool:
        return self.is_wanted and self.before is not None and self.before.is_deleted

    @property
    def columns_changed(self) -> bool:
        """Whether a row that is there is to be written."""
        before = self.before
        return before is not None and (
            self.is_restored
            or (before.phone_number, before.name, before.is_active) != (self.phone_number, self.name, self.is_active)
        )

    @property
    def is_changed(self) -> bool:
        """Whether a contact that is there changes, if only by an address."""
        return self.columns_changed or (self.before is not None and bool(self.new_addresses))


@dataclass(slots=True)
class Merged:
    """What the rows of a batch lead to. The counts are of rows."""

    drafts: list[Draft] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0


def key_of(address: Address) -> Key:
    """The key by which an address is found."""
    return address.kind, address.canonical


def merge(
    people: Iterable[tuple[int, ImportedPerson]],
    known: Mapping[Key, Known],
    existing: Existing,
    new_id: Callable[[], UUID],
) -> Merged:
    """Merge rows, each with its line, into the contacts that have their addresses."""
    merging = _Merging(known, existing, new_id)
    for line, person in people:
        merging.add(line, person)
    wanted = {draft.id: draft for draft in merging.holders.values() if draft.is_wanted}
    merging.merged.drafts = [wanted[contact_id] for contact_id in sorted(wanted)]
    return merging.merged


class _Merging:
    def __init__(self, known: Mapping[Key, Known], existing: Existing, new_id: Callable[[], UUID]) -> None:
        drafts = {contact.id: Draft.of(contact) for contact in known.values()}
        self.holders: dict[Key, Draft] = {key: drafts[contact.id] for key, contact in known.items()}
        self.merged = Merged()
        self._existing = existing
        self._new_id = new_id

    def add(self, line: int, person: ImportedPerson) -> None:
        draft, by_email = self._find(person)
        merged = self.merged
        if draft is not None and draft.before is not None and draft.before.is_being_erased:
            merged.defects.append(Defect(line, "email" if draft is by_email else "phoneNumber", "being_erased"))
            merged.refused += 1
            return
        given = person.addresses
        if by_email is not None and by_email is not draft:
            merged.defects.append(Defect(line, "email", "email_of_another"))
            given = tuple(one for one in given if one is not person.email)
        if draft is None:
            draft = Draft(self._new_id(), None, None, person.name, person.is_active is not False, is_wanted=True)
            self._give(draft, given)
            merged.created += 1
        else:
            was_restored, draft.is_wanted = draft.is_restored, True
            if self._change(draft, person, given) or was_restored != draft.is_restored:
                merged.updated += 1
            else:
                merged.unchanged += 1
        for name in person.groups:
            draft.groups.setdefault(name, line)

    def _find(self, person: ImportedPerson) -> tuple[Draft | None, Draft | None]:
        """The contact that a row is of, if any, and the one that has its e-mail address."""
        by_phone = None if person.phone is None else self.holders.get(key_of(person.phone))
        by_email = None if person.email is None else self.holders.get(key_of(person.email))
        if by_phone is None and by_email is not None and (person.phone is None or not by_email.has_phone):
            return by_email, by_email
        return by_phone, by_email

    def _give(self, draft: Draft, given: Iterable[Address]) -> bool:
        """Give a contact the addresses that no one has. Returns whether there are any."""
        new = [one for one in given if key_of(one) not in self.holders]
        for one in new:
            draft.new_addresses.append(one)
            self.holders[key_of(one)] = draft
            if one.kind == "phone":
                draft.has_phone = True
                draft.phone_number = draft.phone_number or one.given
        return bool(new)

    def _change(self, draft: Draft, person: ImportedPerson, given: Iterable[Address]) -> bool:
        """Change a contact as its row says. Returns whether that changes it."""
        if self._existing == "keep":
            return False
        before = draft.name, draft.is_active
        has_new = self._give(draft, given)
        if person.name is not None and (self._existing == "update" or draft.name is None):
            draft.name = person.name
        if person.is_active is not None and self._existing == "update":
            draft.is_active = person.is_active
        return has_new or before != (draft.name, draft.is_active)
