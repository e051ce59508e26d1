"""What a provider's list of message templates holds, and how a provider is asked for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from shared.domain.model import ChannelKind
from shared.domain.template_status import Status
from shared.settings import Settings

MOST_TEMPLATES: Final = 10_000  # of one account; Meta allows 6,000
LONGEST_LISTING: Final = 30.0  # seconds for all pages of a list
_LONGEST_NAME: Final = 512  # characters; of an id, a language and a category too
_LONGEST_CONTENT: Final = 10_000
_MOST_VARIABLES: Final = 100


@dataclass(frozen=True, slots=True)
class ListedTemplate:
    """A template as its provider lists it. Its variables have the names by which it is sent."""

    external_id: str
    name: str
    language: str | None
    category: str | None
    status: Status
    content: str
    variables: tuple[str, ...]


class NoTemplateList(Exception):
    """The provider gave no list. `reason` is a sentence with the remedy; `passing`: later it may give one."""

    def __init__(self, reason: str, *, passing: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.passing = passing


class ListTemplates(Protocol):
    """Lists all templates of a channel's account, also those that are not approved."""

    async def __call__(
        self, credentials: str, *, kind: ChannelKind, business_id: str | None, settings: Settings
    ) -> list[ListedTemplate]:
        """`credentials` are the channel's, opened. Raises NoTemplateList, and nothing else but CancelledError."""
        ...


def listed(
    *, external_id: str, name: str, language: str, category: str, status: Status, content: str, variables: Iterable[str]
) -> ListedTemplate | None:
    """A template with its texts as they can be stored; None for one without an id or a name."""
    external_id, name = _storable(external_id), _storable(name)
    if not external_id or not name:
        return None
    names = dict.fromkeys(_storable(one) for one in variables)
    return ListedTemplate(
        external_id=external_id,
        name=name,
        language=_storable(language) or None,
        category=_storable(category) or None,
        status=status,
        content=_storable(content, _LONGEST_CONTENT),
        variables=tuple(filter(None, names))[:_MOST_VARIABLES],
    )


def _storable(text: str, longest: int = _LONGEST_NAME) -> str:
    """The text within its bound, without the two things that PostgreSQL refuses: NUL, and half a surrogate pair."""
    return text[:longest].replace("\0", "").encode("utf-8", "replace").decode()
