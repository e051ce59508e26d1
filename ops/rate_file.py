"""Reads a file of prices: checks every line, and names line, field and remedy of each mistake. No I/O."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final, TypeVar, get_args

from ops.terminal import printable
from shared.domain.campaigns.prices import ANY, CATEGORIES, Rate, currencies
from shared.domain.contact_files.people import COUNTRIES
from shared.domain.model import ChannelKind
from shared.domain.provider_names import names

COLUMNS: Final = ("provider", "channel", "market", "category", "price", "currency", "valid_from")
MOST_BYTES: Final = 16 * 1024**2
HIGHEST: Final = Decimal(1000)  # a price above it is a mistake: a sum, or cents of a weak currency
_KINDS: Final[tuple[ChannelKind, ...]] = get_args(ChannelKind)
_DELIMITERS: Final = ",;\t"
_PREFIX: Final = re.compile(r"\+[1-9][0-9]{0,14}", re.ASCII)
_PRICE: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,12})?", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_DAY: Final = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}", re.ASCII)
_LONGEST_SHOWN: Final = 40  # characters of a value in a message

T = TypeVar("T")
Key = tuple[str, ChannelKind, str, str, date]


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with a line, and what to write instead. Line 1 has the names of the columns."""

    line: int
    field: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field}: {self.what}. {self.remedy}."


class FileRefused(Exception):
    """The file can't be loaded; nothing of it is."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(f"{len(mistakes)} mistakes")
        self.mistakes = mistakes


class _Wrong(Exception):
    """A value that can't be taken: what is wrong, and the remedy."""


def key(rate: Rate) -> Key:
    """What a price is for. There is one for each key."""
    return rate.provider, rate.kind, rate.market, rate.category, rate.valid_from


def read(raw: bytes) -> list[Rate]:
    """The prices of a CSV file: UTF-8, with or without its mark, divided by commas, semicolons or tabs.

    Raises FileRefused with all mistakes.
    """
    rows = _rows(raw)
    header_line, header = next(rows, (1, []))
    columns = [name.strip().lower() for name in header]
    if sorted(columns) != sorted(COLUMNS):
        what = "it names other columns than a file of prices has"
        raise FileRefused([Mistake(header_line, "columns", what, f"Write {','.join(COLUMNS)}")])
    rates: dict[Key, tuple[int, Rate]] = {}
    mistakes: list[Mistake] = []
    for line, row in rows:
        if not any(value.strip() for value in row):
            continue
        if len(row) != len(columns):
            what = f"it has {len(row)} fields, and the first line has {len(columns)}"
            mistakes.append(Mistake(line, "fields", what, "Put a value that contains the delimiter in quotes"))
            continue
        rate = _rate(line, dict(zip(columns, row, strict=True)), mistakes)
        if rate is None:
            continue
        if (other := rates.get(key(rate))) is not None:
            what = f"line {other[0]} has a price for the same market, category and day"
            mistakes.append(Mistake(line, "market", what, "Remove one of them"))
        else:
            rates[key(rate)] = line, rate
    if not rates and not mistakes:
        mistakes.append(Mistake(header_line, "columns", "no price follows", "Write one price a line"))
    if mistakes:
        raise FileRefused(mistakes)
    return [rate for _, rate in rates.values()]


def one_currency(rates: Sequence[Rate]) -> str | None:
    """Why these prices can't be one list; None where they can. Prices in two currencies can't be added up."""
    for (provider, kind), found in sorted(currencies(rates).items()):
        if len(found) > 1:
            return f"The prices of {provider} for {kind} would be in {' and '.join(sorted(found))}."
    return None


def written(rates: Sequence[Rate]) -> str:
    """The file that `read` reads."""
    into = io.StringIO()
    lines = csv.writer(into, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(
        (one.provider, one.kind, one.market, one.category, f"{one.price:f}", one.currency, one.valid_from)
        for one in rates
    )
    return into.getvalue()


def _rows(raw: bytes) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its last line."""
    if len(raw) > MOST_BYTES:
        what = f"the file has more than {MOST_BYTES // 1024**2} MB"
        raise FileRefused([Mistake(1, "file", what, "Check that it is a file of prices, and divide it")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise FileRefused([Mistake(line, "file", "it is not UTF-8", 'Save it as "CSV UTF-8"')]) from None
    first = text.partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count), strict=True, skipinitialspace=True
    )
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise FileRefused([Mistake(reader.line_num, "fields", str(error), "Correct the quotes")]) from None


def _rate(line: int, row: Mapping[str, str], mistakes: list[Mistake]) -> Rate | None:
    """The price of a line; None where something is wrong, which is added to the mistakes."""

    def checked(name: str, check: Callable[[str], T]) -> T | None:
        try:
            return check(row[name].strip())
        except _Wrong as wrong:
            what, remedy = wrong.args
            mistakes.append(Mistake(line, name, what, remedy))
            return None

    provider = checked("provider", _provider)
    kind = checked("channel", _channel)
    market = checked("market", _market)
    category = checked("category", lambda value: value.lower() if kind is None else _category(kind, value))
    price = checked("price", _price)
    currency = checked("currency", _currency)
    valid_from = checked("valid_from", _valid_from)
    if (
        provider is None or kind is None or market is None or category is None
        or price is None or currency is None or valid_from is None
    ):  # fmt: skip
        return None
    return Rate(provider, kind, market, category, valid_from, price, currency)


def _provider(value: str) -> str:
    if value.lower() not in names():
        raise _Wrong(f"{_shown(value)} is no provider", f"Write one of: {', '.join(names())}")
    return value.lower()


def _channel(value: str) -> ChannelKind:
    for kind in _KINDS:
        if value.lower() == kind:
            return kind
    raise _Wrong(f"{_shown(value)} is no kind of channel", f"Write one of: {', '.join(_KINDS)}")


def _market(value: str) -> str:
    if value.upper() not in COUNTRIES and value != ANY and not _PREFIX.fullmatch(value):
        raise _Wrong(
            f"{_shown(value)} is no market",
            "Write a country by its two letters (MX), the beginning of numbers with its plus sign (+1787), or * for "
            "all others",
        )
    return value.upper()


def _category(kind: ChannelKind, value: str) -> str:
    if value.lower() not in CATEGORIES[kind]:
        raise _Wrong(f"{_shown(value)} is no category of {kind}", f"Write one of: {', '.join(CATEGORIES[kind])}")
    return value.lower()


def _price(value: str) -> Decimal:
    if "," in value:
        raise _Wrong(f"{_shown(value)} has a comma", "Write a decimal point and no thousands separator: 0.0436")
    if value.startswith("-"):
        raise _Wrong(f"{_shown(value)} is negative", "Write what a message costs; 0 for one that is free")
    if not _PRICE.fullmatch(value):
        raise _Wrong(
            f"{_shown(value)} is no price", "Write digits, and at most 12 of them behind a decimal point: 0.0436"
        )
    if Decimal(value) > HIGHEST:
        raise _Wrong(f"{_shown(value)} is more than {HIGHEST}", "Write what one message, or one segment, costs")
    return Decimal(value)


def _currency(value: str) -> str:
    if not _CURRENCY.fullmatch(value.upper()):
        raise _Wrong(f"{_shown(value)} is no currency", "Write its three letters of ISO 4217: USD")
    return value.upper()


def _valid_from(value: str) -> date:
    try:
        if not _DAY.fullmatch(value):
            raise ValueError
        return date.fromisoformat(value)
    except ValueError:
        raise _Wrong(f"{_shown(value)} is no day", "Write year, month and day: 2026-10-01") from None


def _shown(value: str) -> str:
    cut = value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}…"
    return f'"{printable(cut)}"' if value else "nothing"
