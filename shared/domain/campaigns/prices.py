"""What messages cost: the market of a recipient, the price that applies, and the forecast for a campaign. No I/O.

Providers charge by the recipient's country and the message's category; Meta for each WhatsApp message that is
delivered, carriers for each segment of an SMS. The operator loads the prices. Money is Decimal throughout.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import phonenumbers

from shared.domain import sms_segments
from shared.domain.model import ChannelKind

ANY: Final = "*"  # the market of all that no other price is for
FEE: Final = "fee"  # a category: what the provider adds to each message, whatever else that costs
CATEGORIES: Final[Mapping[ChannelKind, tuple[str, ...]]] = MappingProxyType(
    {
        "whatsapp": ("marketing", "marketing_lite", "utility", "authentication", "authentication_international",
                     "service", FEE),
        "sms": ("sms", "mms", FEE),
        "email": ("email", FEE),
    }
)  # fmt: skip
# Where no price of the category itself is loaded. Meta charges service messages at the utility rate since 1 October
# 2026. `marketing_lite` is a marketing message on Meta's other path.
_CHARGED_AS: Final[Mapping[str, str]] = MappingProxyType({"service": "utility", "marketing_lite": "marketing"})
_FREE: Final = "free_"  # how Meta's types begin that cost nothing
_WORD: Final = re.compile(r"[a-z][a-z_]{0,39}")
_NO_COUNTRY: Final = phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY


@dataclass(frozen=True, slots=True)
class Rate:
    """One price of the operator's list: a row of `message_rates`, a line of the file that is loaded."""

    provider: str
    kind: ChannelKind
    market: str  # ISO country, the beginning of numbers (+1787), or ANY
    category: str
    valid_from: date
    price: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Market:
    """Where a recipient is, as exactly as the price list divides the world."""

    country: str  # ISO; ANY where there is no number, or none of a country
    prefix: str = ""  # the beginning of the number, where the list has a price for such numbers


@dataclass(frozen=True, slots=True)
class Charge:
    """What is paid for: a message of this category, to this market."""

    provider: str
    kind: ChannelKind
    category: str
    market: Market
    units: int = 1  # segments of an SMS
    is_free: bool = False  # but for the provider's fee


@dataclass(frozen=True, slots=True)
class Amount:
    value: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Stated:
    """How the provider says that it charges a message."""

    category: str
    type: str
    is_free: bool


@dataclass(frozen=True, slots=True)
class Forecast:
    """What messages would cost. Those without a rate are in no amount."""

    amounts: Mapping[str, Decimal] = field(default_factory=dict)  # by currency
    messages: int = 0
    without_rate: int = 0

    def __add__(self, other: "Forecast") -> "Forecast":
        both = {
            currency: self.amounts.get(currency, Decimal(0)) + other.amounts.get(currency, Decimal(0))
            for currency in (*self.amounts, *other.amounts)
        }
        return Forecast(both, self.messages + other.messages, self.without_rate + other.without_rate)


@lru_cache(maxsize=65_536)
def country_of(address: str) -> str:
    """The ISO country of a number in E.164 form, or of Meta's id of a user (ES.1349…), which begins with it.

    ANY for any other address, and for numbers of no country.
    """
    if not address.startswith("+"):
        country, dot, _ = address.partition(".")
        return country if dot and country in phonenumbers.SUPPORTED_REGIONS else ANY
    try:
        region = phonenumbers.region_code_for_number(phonenumbers.parse(address))
    except phonenumbers.NumberParseException:
        return ANY
    return ANY if region is None or region == _NO_COUNTRY else region


def stated(category: str | None, kind: str | None, billable: bool | None) -> Stated | None:
    """Category and type as the provider's receipt names them; None where it names no category that can be one."""
    if category is None or not _WORD.fullmatch(category):
        return None
    type_ = kind if kind is not None and _WORD.fullmatch(kind) else ""
    return Stated(category, type_, billable is False or type_.startswith(_FREE))


def expected_category(kind: ChannelKind, *, template: str | None, has_files: bool = False) -> str:
    """The category as far as we know it ourselves. `template`: that of the message's template; None: it is free-form.

    A template whose category we don't know counts as marketing, the most expensive one.
    """
    if kind == "sms":
        return "mms" if has_files else "sms"
    if kind == "email":
        return "email"
    if template is None:
        return "service"
    lowered = template.lower()
    return lowered if lowered in CATEGORIES["whatsapp"] and lowered != FEE else "marketing"


def expected_units(kind: ChannelKind, text: str, *, has_files: bool = False) -> int:
    """How many units a message with this text is charged as: the segments of an SMS, else one."""
    return sms_segments.size(text).segments if kind == "sms" and not has_files else 1


class RateBook:
    """The operator's prices, by what they are for."""

    def __init__(self, rates: Sequence[Rate]) -> None:
        self._rates: dict[tuple[str, str, str, str], list[Rate]] = defaultdict(list)
        for rate in sorted(rates, key=lambda one: one.valid_from, reverse=True):
            self._rates[rate.provider, rate.kind, rate.category, rate.market].append(rate)
        self._currencies: Final[Mapping[tuple[str, str], str]] = {
            of: next(iter(those)) for of, those in currencies(rates).items() if len(those) == 1
        }
        prefixes = {market for *_, market in self._rates if market.startswith("+")}
        self._prefixes: Final = frozenset(prefixes)
        self._longest: Final = max((len(prefix) for prefix in prefixes), default=0)

    def market(self, address: str | None) -> Market:
        """The market of a canonical address; None and an e-mail address have none of their own."""
        if address is None:
            return Market(ANY)
        begins = (address[:length] for length in range(min(len(address), self._longest), 1, -1))
        return Market(country_of(address), next((one for one in begins if one in self._prefixes), ""))

    def rate(self, provider: str, kind: str, category: str, market: Market, day: date) -> Rate | None:
        """The price of one unit: of the most specific market that has one on that day, and there the newest."""
        for place in _places(market):
            for rate in self._rates.get((provider, kind, category, place), ()):
                if rate.valid_from <= day:
                    return rate
        return None

    def amount(self, charge: Charge, day: date) -> Amount | None:
        """What one message costs; None where no rate is loaded for it."""
        currency = self._currencies.get((charge.provider, charge.kind))
        if currency is None:
            return None
        value = Decimal(0)
        if not charge.is_free:
            price = self._rate_of(charge, charge.category, day)
            if price is None and charge.category in _CHARGED_AS:
                price = self._rate_of(charge, _CHARGED_AS[charge.category], day)
            if price is None:
                return None
            value = price.price * charge.units
        fee = self._rate_of(charge, FEE, day)
        return Amount(value if fee is None else value + fee.price, currency)

    def _rate_of(self, charge: Charge, category: str, day: date) -> Rate | None:
        return self.rate(charge.provider, charge.kind, category, charge.market, day)


def currencies(rates: Iterable[Rate]) -> Mapping[tuple[str, ChannelKind], frozenset[str]]:
    """The currencies of each provider's prices for a kind of channel. More than one can't be added up."""
    found: defaultdict[tuple[str, ChannelKind], set[str]] = defaultdict(set)
    for rate in rates:
        found[rate.provider, rate.kind].add(rate.currency)
    return {of: frozenset(those) for of, those in found.items()}


def forecast(book: RateBook, messages: Mapping[Charge, int], day: date) -> Forecast:
    """What so many messages of each charge cost on that day."""
    amounts: defaultdict[str, Decimal] = defaultdict(Decimal)
    without_rate = 0
    for charge, count in messages.items():
        amount = book.amount(charge, day)
        if amount is None:
            without_rate += count
        else:
            amounts[amount.currency] += amount.value * count
    return Forecast(dict(amounts), sum(messages.values()), without_rate)


@lru_cache(maxsize=4_096)
def _places(market: Market) -> tuple[str, ...]:
    """Where a price may stand, the most specific first: a part of the country, the country, its calling code, ANY."""
    country = () if market.country == ANY else (market.country,)
    calling = f"+{phonenumbers.country_code_for_region(market.country)}" if country else ""
    within = (market.prefix[:length] for length in range(len(market.prefix), max(len(calling), 1), -1))
    wider = (calling[:length] for length in range(len(calling), 1, -1))
    return (*within, *country, *wider, ANY)
