"""What may be wrong with a file of contacts: with the whole file, or with one of its lines. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

LONGEST_LINE: Final = 32 * 1024  # bytes; also of a row that is written over several lines
MOST_LINES_OF_A_ROW: Final = 100
MOST_COLUMNS: Final = 200
MOST_ROWS: Final = 1_000_000  # of a file
MOST_LINES: Final = 10 * MOST_ROWS  # of a file; some are blank, and a row may go over several
MOST_GROUPS_OF_A_ROW: Final = 20
MOST_NEW_GROUPS: Final = 1_000  # that one import makes
LONGEST_NAME: Final = 200  # characters, as contacts.create takes it

Field = Literal["phoneNumber", "email", "name", "isActive", "groups"]
FIELDS: Final[tuple[Field, ...]] = ("phoneNumber", "email", "name", "isActive", "groups")


class FileRefused(Exception):
    """The file can't be read at all; nothing of it goes in. It says why, and the remedy."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(f"{detail} {remedy}")
        self.detail = detail
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class DefectKind:
    """One way in which a line is wrong. The line is left out, or where `keeps_line` only what is wrong in it."""

    detail: str
    remedy: str
    keeps_line: bool = False


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong with a line. It names no value: a report that held one would have to be erased with the person."""

    line: int
    field: Field | None  # None: the whole line
    code: str  # of KINDS


KINDS: Final[Mapping[str, DefectKind]] = {
    "too_long": DefectKind("The line is too long.", f"A row has at most {LONGEST_LINE} bytes."),
    "encoding": DefectKind("The line is no UTF-8.", "Save the file in the encoding UTF-8."),
    "nul": DefectKind("It holds the character NUL.", "Remove that character."),
    "open_quote": DefectKind("A quotation mark opens a cell that does not end.", 'Write a " within a cell as "".'),
    "malformed": DefectKind("The line is no valid CSV.", 'Write each cell in "…", and a " within it as "".'),
    "too_many_cells": DefectKind(
        "The line has more cells than the header has columns.", 'Write a cell that holds the delimiter in "…".'
    ),
    "no_json": DefectKind("The line is no JSON object.", "Write one object a line, in UTF-8."),
    "no_address": DefectKind("The line has neither a phone number nor an e-mail address.", "Add one."),
    "no_text": DefectKind("The value is no text.", "Write it as a string."),
    "phone_number": DefectKind(
        "This is no phone number.", "Write it in international form, such as +14155238886, and format cells as text."
    ),
    "no_country": DefectKind(
        "The number has no country code.", "Write it as +14155238886, or give the import a default country."
    ),
    "email": DefectKind("This is no e-mail address.", "Write one address, such as ana@example.com."),
    "too_long_name": DefectKind("The name is too long.", f"A name has at most {LONGEST_NAME} characters."),
    "no_truth": DefectKind("This is neither true nor false.", "Write true or false."),
    "groups": DefectKind(
        "These are no names of groups.",
        f"Write at most {MOST_GROUPS_OF_A_ROW} names, each of at most {LONGEST_NAME} characters, with ; between them.",
    ),
    "groups_forbidden": DefectKind(
        "The key may not put contacts into groups.", "Use a key with the scope groups:write, or leave the groups out."
    ),
    "being_erased": DefectKind(
        "The contact with this address is being erased.", "Import the line again once the event contact_erased came."
    ),
    "unstorable": DefectKind("The line holds what PostgreSQL can't store.", "Write it in another way."),
    "email_of_another": DefectKind(
        "Another contact has this e-mail address, and another number: the contact is imported without it.",
        "Leave the address out, or take it from the other contact.",
        keeps_line=True,
    ),
    "too_many_groups": DefectKind(
        f"An import makes at most {MOST_NEW_GROUPS} groups: the contact is imported without this one.",
        "Make the group first: groups.create.",
        keeps_line=True,
    ),
}
