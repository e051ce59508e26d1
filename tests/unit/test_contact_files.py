"""Files of contacts: how lines become rows, rows become people, and people become contacts."""

from collections.abc import Iterator
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from shared.domain import addresses
from shared.domain.contact_files import people
from shared.domain.contact_files.defects import (
    KINDS,
    LONGEST_LINE,
    MOST_COLUMNS,
    MOST_LINES_OF_A_ROW,
    Defect,
    FileRefused,
)
from shared.domain.contact_files.lines import Lines
from shared.domain.contact_files.merge import Existing, Known, Merged, key_of, merge
from shared.domain.contact_files.people import ImportedPerson
from shared.domain.contact_files.rows import Format, Row, rows_of
from shared.domain.model import Address

HEADER = b"phone,name\n"


def rows(file: bytes, format_: Format = "csv", piece: int = 7) -> list[Row]:
    """The rows of a file that arrives in pieces."""
    lines, reader = Lines(), rows_of(format_)
    found = [
        row for place in range(0, len(file), piece) for row in reader.feed(lines.feed(file[place : place + piece]))
    ]
    found += reader.feed(lines.end())
    found += reader.end()
    return found


def read(file: bytes, format_: Format = "csv") -> list[Any]:
    """Each row's cells, or the line and code of its defects."""
    return [
        dict(row.cells) if row.cells is not None else [(one.line, one.code) for one in row.defects]
        for row in rows(file, format_)
        if row.cells is not None or row.defects
    ]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (HEADER + b"+1,Ana\n", [{"phoneNumber": "+1", "name": "Ana"}]),
        (b"\xef\xbb\xbf" + HEADER + b"+1,Ana", [{"phoneNumber": "+1", "name": "Ana"}]),
        (b"phone;name\r\n+1;Ana, B.\r\n", [{"phoneNumber": "+1", "name": "Ana, B."}]),
        (b"phone\tname\n+1\tAna\n", [{"phoneNumber": "+1", "name": "Ana"}]),
        (b"\n\n" + HEADER + b"\n,\n+1,Ana\n", [{"phoneNumber": "+1", "name": "Ana"}]),
        (HEADER + b'+1,"A\nB"\n+2,C\n', [{"phoneNumber": "+1", "name": "A\nB"}, {"phoneNumber": "+2", "name": "C"}]),
        (HEADER + b'+1,"say ""hi"", A"\n', [{"phoneNumber": "+1", "name": 'say "hi", A'}]),
        (HEADER + b'+1,5" B\n+2,"C"\n', [{"phoneNumber": "+1", "name": '5" B'}, {"phoneNumber": "+2", "name": "C"}]),
        (b"Correo Electr\xc3\xb3nico,City,Tags\na@b.c,Lima,x;y\n", [{"email": "a@b.c", "groups": "x;y"}]),
        (HEADER + b"'+1,'=1+1\n", [{"phoneNumber": "+1", "name": "=1+1"}]),  # as our exports guard them
        (HEADER + b"+1\n", [{"phoneNumber": "+1"}]),
        (HEADER + b"+1,Ana,,\n", [{"phoneNumber": "+1", "name": "Ana"}]),
        (HEADER + b"+1,Ana,more\n+2,B\n", [[(2, "too_many_cells")], {"phoneNumber": "+2", "name": "B"}]),
        (HEADER + b"+1," + b"," * 10_000 + b"x\n+2,B\n", [[(2, "too_many_cells")], {"phoneNumber": "+2", "name": "B"}]),
        (HEADER + b"+1,Jos\xe9\n+2,B\n", [[(2, "encoding")], {"phoneNumber": "+2", "name": "B"}]),
        (HEADER + b"+1,A\0\n+2,B\n", [[(2, "nul")], {"phoneNumber": "+2", "name": "B"}]),
        (HEADER + b"x" * 1_000_000 + b"\n+2,B\n", [[(2, "too_long")], {"phoneNumber": "+2", "name": "B"}]),
        (HEADER + b"+2,B\n" + b"x" * 1_000_000, [{"phoneNumber": "+2", "name": "B"}, [(3, "too_long")]]),
        (HEADER + b'+1,"A\n+2,B\n', [[(2, "open_quote")], {"phoneNumber": "+2", "name": "B"}]),
        (HEADER + b'+1,"A\n\xff\n+2,B\n', [[(2, "open_quote")], [(3, "encoding")], {"phoneNumber": "+2", "name": "B"}]),
        (HEADER + b"+1,A\rB\n+2,B\n", [{"phoneNumber": "+1", "name": "A\rB"}, {"phoneNumber": "+2", "name": "B"}]),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_costs_no_other_line_anything(file: bytes, expected: list[Any]) -> None:
    assert read(file) == expected


def test_a_cell_without_an_end_loses_its_own_line_however_much_follows() -> None:
    follow = [b"+%d,B\n" % number for number in range(2, 2 * MOST_LINES_OF_A_ROW)]
    found = read(HEADER + b'+1,"A\n' + b"".join(follow))
    assert found[0] == [(2, "open_quote")]
    assert len(found) == 1 + len(follow)
    assert all(isinstance(one, dict) for one in found[1:])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"phoneNumber": "+1", "groups": ["a"], "city": 1}', [{"phoneNumber": "+1", "groups": ["a"]}]),
        (b'{"phoneNumber": null}', [{}]),
        (b"", []),
        (b"[]", [[(1, "no_json")]]),
        (b"{", [[(1, "no_json")]]),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, [[(1, "no_json")]]),
        (b'{"name": "\\ud800"}', [[(1, "no_json")]]),
        (b'{"name": "\\\\u0000"}', [{"name": "\\u0000"}]),
    ],
)
def test_ndjson_has_an_object_a_line(line: bytes, expected: list[Any]) -> None:
    assert read(line + b"\n", "ndjson") == expected


@pytest.mark.parametrize(
    ("file", "detail"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"name,city\nAna,Lima\n", "phoneNumber"),
        (b"phone,mobile\n+1,+2\n", "both hold"),
        (b"phone," + b"x," * MOST_COLUMNS + b"\n", "columns"),
        ("phone,name\n".encode("utf-16"), "UTF-8"),
        ("phone,name\n".encode("utf-16-le"), "UTF-8"),
        (b"x" * (LONGEST_LINE + 1) + b"\n", "header"),
        (b"phone,nombr\xe9\n", "header"),
        (b'phone,"name\n+1,A\n', "header"),
        (b"PK\x03\x04\0\0\n", "UTF-8"),  # a spreadsheet's own format
    ],
)
def test_a_file_whose_beginning_cannot_be_read_is_refused_with_a_remedy(file: bytes, detail: str) -> None:
    with pytest.raises(FileRefused, match=detail) as refused:
        rows(file)
    assert refused.value.remedy


def test_rows_are_the_same_in_whatever_pieces_the_file_comes() -> None:
    file = HEADER + b'+1,"A\nB"\r\n\n+2,C\n+3,"D\n' + b"x" * 40_000 + b"\n+4,E"
    whole = rows(file, piece=len(file))
    for piece in (1, 3, 4096):
        assert rows(file, piece=piece) == whole
    assert [(row.first, row.last) for row in whole if row.cells] == [(2, 3), (5, 5), (8, 8)]


@pytest.mark.parametrize(
    ("given", "country", "expected"),
    [
        ("+1 (415) 523-8886", None, "+14155238886"),
        ("415 523 8886", "US", "+14155238886"),
        ("55 1234 5678", "MX", "+525512345678"),
        ("525512345678", "MX", "+525512345678"),
        ("+52 1 55 1234 5678", None, "+5215512345678"),  # as WhatsApp writes it
        ("07911 123456", "GB", "+447911123456"),
        ("+44 7911 123456", "MX", "+447911123456"),
        ("whatsapp:+14155238886", None, "+14155238886"),
        ("4155238886", None, "no_country"),
        ("523 8886", "US", "phone_number"),  # a number within a town
        ("5.21551E+12", "MX", "phone_number"),
        ("1-800-FLOWERS", "US", "phone_number"),
        ("+1 415", None, "phone_number"),
        ("+999 1234567890", None, "phone_number"),
        ("=1+1", "MX", "phone_number"),
        ("1" * 1000, "US", "phone_number"),
    ],
)
def test_phone_numbers_become_e164(given: str, country: str | None, expected: str) -> None:
    found = people.read(2, {"phoneNumber": given}, country)
    if isinstance(found, ImportedPerson):
        assert found.phone is not None
        assert found.phone.given == expected
    else:
        assert found == (Defect(2, "phoneNumber", expected),)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"email": "Ana@Example.com"}, ImportedPerson(email=Address("email", "Ana@Example.com", "ana@example.com"))),
        ({"email": "ana"}, ["email"]),
        ({"name": "Ana"}, ["no_address"]),
        ({}, ["no_address"]),
        ({"email": "a@b.c", "name": "x" * 201, "isActive": "perhaps"}, ["too_long_name", "no_truth"]),
        ({"email": "a@b.c", "groups": ";".join(map(str, range(21)))}, ["groups"]),
        ({"email": "a@b.c", "groups": ["x", 1]}, ["no_text"]),
        ({"email": 7}, ["no_text"]),
        ({"email": "a@b.c", "name": "\0"}, ["nul"]),
        ({"email": "a@b.c", "name": {}}, ["no_text"]),
    ],
)
def test_all_that_is_wrong_with_a_row_is_named(cells: dict[Any, Any], expected: ImportedPerson | list[str]) -> None:
    found = people.read(2, cells, None)
    if isinstance(found, ImportedPerson):
        assert found == expected
    else:
        assert [one.code for one in found] == expected
        assert all(one.code in KINDS for one in found)


def test_a_row_names_groups_and_whether_its_contact_is_active() -> None:
    found = people.read(2, {"email": "a@b.c", "groups": "VIP; Lima |VIP", "isActive": "No"}, None)
    assert isinstance(found, ImportedPerson)
    assert (found.groups, found.is_active) == (("VIP", "Lima"), False)


# -- merging -----------------------------------------------------------------------------------------------------------

ANA, BEA = UUID(int=1), UUID(int=2)
P1, P2, P3 = (addresses.phone(f"+1415523888{last}") for last in (1, 2, 3))
E1, E2 = addresses.email("one@example.com"), addresses.email("two@example.com")


def known(contact: UUID, *of: Address | None, **members: Any) -> dict[tuple[str, str], Known]:
    there = [one for one in of if one is not None]
    number = next((one.given for one in there if one.kind == "phone"), None)
    defaults = {"name": None, "is_active": True, "is_deleted": False, "is_being_erased": False}
    one = Known(id=contact, phone_number=number, has_phone=number is not None, **{**defaults, **members})
    return {key_of(address): one for address in there}


def merged(
    given: list[ImportedPerson], there: dict[tuple[str, str], Known] | None = None, existing: Existing = "update"
) -> Merged:
    numbers: Iterator[int] = count(100)
    return merge(enumerate(given, 2), there or {}, existing, lambda: UUID(int=next(numbers)))


def counts(one: Merged) -> tuple[int, int, int, int]:
    return one.created, one.updated, one.unchanged, one.refused


def person(phone: Address | None = None, email: Address | None = None, name: str | None = None) -> ImportedPerson:
    return ImportedPerson(phone, email, name)


@pytest.mark.parametrize(
    ("given", "there", "expected", "codes"),
    [
        ([person(P1)], {}, (1, 0, 0, 0), []),
        ([person(P1), person(P1)], {}, (1, 0, 1, 0), []),
        ([person(P1), person(P1, name="Ana")], {}, (1, 1, 0, 0), []),
        ([person(P1), person(P2)], {}, (2, 0, 0, 0), []),
        ([person(P1, E1), person(email=E1)], {}, (1, 0, 1, 0), []),
        ([person(email=E1), person(P1, E1)], {}, (1, 1, 0, 0), []),  # the mail's contact has no number yet
        ([person(P1, E1), person(P2, E1)], {}, (2, 0, 0, 0), ["email_of_another"]),  # a mailbox that two share
        ([person(P1, E2)], known(ANA, P1) | known(BEA, E2), (0, 0, 1, 0), ["email_of_another"]),
        ([person(P1)], known(ANA, P1), (0, 0, 1, 0), []),
        ([person(P1, E1)], known(ANA, P1), (0, 1, 0, 0), []),
        ([person(P1, E1)], known(ANA, E1), (0, 1, 0, 0), []),
        ([person(P1)], known(ANA, P1, is_deleted=True), (0, 1, 0, 0), []),
        ([person(P1), person(P1)], known(ANA, P1, is_deleted=True), (0, 1, 1, 0), []),
        ([person(P1)], known(ANA, P1, is_deleted=True, is_being_erased=True), (0, 0, 0, 1), ["being_erased"]),
        ([person(email=E1)], known(ANA, E1, is_being_erased=True), (0, 0, 0, 1), ["being_erased"]),
    ],
)
def test_there_are_never_two_contacts_for_one_address(
    given: list[ImportedPerson],
    there: dict[tuple[str, str], Known],
    expected: tuple[int, int, int, int],
    codes: list[str],
) -> None:
    found = merged(given, there)
    assert counts(found) == expected
    assert [one.code for one in found.defects] == codes
    held = [key_of(one) for draft in found.drafts for one in draft.new_addresses]
    assert len(set(held)) == len(held)
    assert not set(held) & set(there)


@pytest.mark.parametrize(
    ("existing", "name", "active", "has_email"),
    [("update", "New", False, True), ("fill", "Old", True, True), ("keep", "Old", True, False)],
)
def test_what_becomes_of_a_contact_that_is_there(existing: Existing, name: str, active: bool, has_email: bool) -> None:
    row = ImportedPerson(P1, E1, "New", False, ("VIP",))
    (draft,) = merged([row], known(ANA, P1, name="Old"), existing).drafts
    assert (draft.name, draft.is_active, bool(draft.new_addresses)) == (name, active, has_email)
    assert draft.groups == {"VIP": 2}


def test_a_deleted_contact_that_only_shares_a_mailbox_stays_deleted() -> None:
    found = merged([person(P2, E1)], known(ANA, P1, E1, is_deleted=True))
    assert [(draft.before, draft.is_restored) for draft in found.drafts] == [(None, False)]


def test_it_does_not_matter_where_a_batch_ends() -> None:
    given = [person(P1), person(email=E1), person(P1, E1), person(P2, E1, "B"), person(P2), person(P3, name="C")]
    whole = merged(given)
    there: dict[tuple[str, str], Known] = {}
    sums = [0, 0, 0, 0]
    for one in given:
        part = merged([one], there)
        sums = [a + b for a, b in zip(sums, counts(part), strict=True)]
        for draft in part.drafts:
            contact = Known(
                id=draft.id if draft.before else UUID(int=1000 + len(there)),
                phone_number=draft.phone_number,
                name=draft.name,
                is_active=draft.is_active,
                is_deleted=False,
                is_being_erased=False,
                has_phone=draft.has_phone,
            )
            held = [key for key, other in there.items() if other.id == draft.id]
            there |= dict.fromkeys([*held, *map(key_of, draft.new_addresses)], contact)
    assert tuple(sums) == counts(whole)
