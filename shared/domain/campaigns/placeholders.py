"""The placeholders in a campaign's texts: which there are, and what a text says with a recipient's values. No I/O.

A placeholder stands in double braces, as a template's variable does. It names a fact of the recipient, and what stands
there where the fact is not known: `Hello {{contact.name|there}}`.

| placeholder | is |
|---|---|
| `{{contact.name}}`, `{{contact.phone}}`, `{{contact.email}}` | what the contact is known by |
| `{{contact.metadata.city}}` | `city` in the contact's metadata |
| `{{data.code}}` | `code` in what the campaign says of this recipient alone |

The values are looked up once, when the recipients are frozen (shared/store/campaigns/freezing.py). What stands in a
value is never taken for a placeholder.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from shared.domain import template_text

Source = Literal["name", "phone", "email", "metadata", "data"]

LONGEST_KEY: Final = 100  # characters
MOST_FIELDS: Final = 50  # different ones of a campaign: the values of each are stored with each recipient
_OF_CONTACT: Final[Mapping[str, Source]] = {
    "contact.name": "name", "contact.phone": "phone", "contact.email": "email",
}  # fmt: skip
_WITH_KEY: Final[tuple[tuple[str, Source], ...]] = (("contact.metadata.", "metadata"), ("data.", "data"))
_KNOWN: Final = (
    "Use {{contact.name}}, {{contact.phone}}, {{contact.email}}, {{contact.metadata.KEY}} or {{data.KEY}}, with a "
    "default as in {{contact.name|there}}."
)


class WrongPlaceholder(ValueError):
    """A text with a placeholder that can't be filled: `reason` says which, `remedy` what to write."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Field:
    """A fact of a recipient that placeholders name: `contact.metadata.city` is `city` of their metadata."""

    name: str
    source: Source
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One place in a text. `default` None: the recipient is skipped where the fact is not known."""

    field: Field
    default: str | None


@dataclass(frozen=True, slots=True)
class Text:
    """A text in parts: what stands in it, and its placeholders, in order."""

    parts: tuple[str | Placeholder, ...]

    @property
    def placeholders(self) -> tuple[Placeholder, ...]:
        return tuple(part for part in self.parts if isinstance(part, Placeholder))

    def filled(self, values: Mapping[str, str]) -> str:
        """The text with values by the names of their fields. Raises KeyError of a field that has neither a value nor a
        default: see `missing`."""
        return "".join(part if isinstance(part, str) else _value(part, values) for part in self.parts)


def _value(placeholder: Placeholder, values: Mapping[str, str]) -> str:
    if placeholder.default is None:
        return values[placeholder.field.name]
    return values.get(placeholder.field.name, placeholder.default)


@lru_cache(maxsize=256)
def parse(text: str) -> Text:
    """The text in parts. Raises WrongPlaceholder for what looks like a placeholder and is none: it would be sent so."""
    if "\0" in text:
        raise WrongPlaceholder("The text holds a NUL character.", "Remove it.")
    names, around = template_text.split(text)
    if any("{{" in literal or "}}" in literal for literal in around):
        raise WrongPlaceholder("Double braces stand in it without a placeholder between them.", _KNOWN)
    parts: list[str | Placeholder] = [around[0]]
    for name, literal in zip(names, around[1:], strict=True):
        parts += (_placeholder(name), literal)
    return Text(tuple(part for part in parts if part != ""))


def _placeholder(written: str) -> Placeholder:
    name, bar, default = written.partition("|")
    return Placeholder(_field(name.strip()), default.strip() if bar else None)


def _field(name: str) -> Field:
    if name in _OF_CONTACT:
        return Field(name, _OF_CONTACT[name])
    for beginning, source in _WITH_KEY:
        key = name.removeprefix(beginning)
        if key != name and 0 < len(key) <= LONGEST_KEY and key.isprintable():
            return Field(name, source, key)
    shown = name if len(name) <= LONGEST_KEY else f"{name[:LONGEST_KEY]}…"
    raise WrongPlaceholder(f"{{{{{shown}}}}} is no placeholder.", _KNOWN)


@dataclass(frozen=True, slots=True)
class Used:
    """A field that texts use. `needed`: somewhere without a default."""

    field: Field
    needed: bool


def used(texts: Iterable[str]) -> tuple[Used, ...]:
    """The fields that these texts use, each once. Raises WrongPlaceholder, also for more than MOST_FIELDS."""
    needed: dict[Field, bool] = {}
    for text in texts:
        for one in parse(text).placeholders:
            needed[one.field] = needed.get(one.field, False) or one.default is None
    if len(needed) > MOST_FIELDS:
        raise WrongPlaceholder(f"The texts use {len(needed)} different placeholders.", f"Use at most {MOST_FIELDS}.")
    return tuple(Used(field, always) for field, always in needed.items())


def missing(texts: Iterable[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """The fields without which these texts say nothing to a recipient with these values. Raises WrongPlaceholder."""
    return tuple(one.field.name for one in used(texts) if one.needed and one.field.name not in values)


def render(text: str, values: Mapping[str, str]) -> str:
    """What the text says to a recipient with these values. Raises WrongPlaceholder, and KeyError as `Text.filled`."""
    return parse(text).filled(values)


def variables(given: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """The variables of a template for a recipient with these values, as WhatsApp takes them. Raises as `render`."""
    return {name: template_text.as_value(render(text, values)) for name, text in given.items()}
