"""The placeholders in a campaign's texts: fills `{{contact.name|there}}` with a recipient's values. No I/O."""

import re
from collections.abc import Mapping
from typing import Final

_PLACEHOLDER: Final = re.compile(r"\{\{([^{}|]+)(?:\|([^{}]*))?\}\}")


class WrongPlaceholder(ValueError):
    """A text with a placeholder that can't be filled."""


def render(text: str, values: Mapping[str, str]) -> str:
    """What the text says to a recipient with these values. Raises KeyError of a value that is missing."""

    def filled(found: re.Match[str]) -> str:
        name, default = found[1].strip(), found[2]
        return values[name] if default is None else values.get(name, default.strip())

    return _PLACEHOLDER.sub(filled, text)


def variables(given: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """The variables of a template for a recipient with these values, as WhatsApp takes them."""
    return {name: " ".join(render(text, values).split())[:1024] for name, text in given.items()}
