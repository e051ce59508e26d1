"""Providers by name: each folder here is one, and knows all of it."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, cast

from shared.domain.model import Media
from shared.providers.base import Parsed, RawWebhook, Refusal, Sender, Traits
from shared.providers.media_source import Source, plain_link


class Provider(Protocol):
    """What a provider's folder offers as functions."""

    def verify(self, raw: RawWebhook, tokens: Sequence[str]) -> bool:
        """Whether one of the tokens signed this request."""
        ...

    def parse(self, raw: RawWebhook) -> Parsed:
        """All of a webhook; never raises for what it holds."""
        ...

    def error_class(self, code: str) -> type[Refusal] | None:
        """What a provider's error code means; None for one we don't know."""
        ...

    def make_sender(self, credentials: str, *, api_url: str, timeout: float, proxy: str | None = None) -> Sender:
        """A sender for one channel's credentials (JSON, opened), which calls through the proxy, if any.

        Raises ValueError naming what is wrong with the credentials.
        """
        ...


@cache
def names() -> tuple[str, ...]:
    """The providers there are, by the names of their folders."""
    return tuple(sorted(module.name for module in iter_modules(__path__) if module.ispkg))


@cache
def provider(name: str) -> Provider:
    """The package of a provider. Raises LookupError naming those there are."""
    if name not in names():
        raise LookupError(f"no provider {name!r}; there are: {', '.join(names())}")
    return cast(Provider, import_module(f"shared.providers.{name}"))


def media_source(name: str, media: Media, credentials: str, *, api_url: str) -> Source:
    """Where a customer's file lies, as its provider knows; a provider that says nothing gives plain links.

    `credentials` are the channel's (JSON, opened). Raises ValueError where they are needed and can't be read.
    """
    own: Callable[..., Source] = getattr(provider(name), "media_source", plain_link)
    return own(media, credentials, api_url=api_url)


def traits(name: str) -> Traits:
    """What is particular to a provider; nothing is to one that has no module here."""
    found: Traits = getattr(provider(name), "TRAITS", Traits()) if name in names() else Traits()
    return found


def by_receipt(name: str, code: str) -> Refusal | None:
    """What a failure of this code means that a provider tells of a message it had accepted; None where it tells none,
    or we have no class for it."""
    own: Callable[[str], Refusal | None] | None = getattr(provider(name), "by_receipt", None)
    return own(code) if own is not None else None
