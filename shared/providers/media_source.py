"""Where a provider stores a customer's file: the URL to fetch, and which hosts may see the channel's credentials.

Direct     one GET returns the file
Located    one GET returns its present address
InWebhook  the webhook itself holds it
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from yarl import URL

from shared.domain.media import Failure
from shared.domain.model import Media
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Get:
    """A GET. Its headers hold a channel's credentials: only hosts in `trusted` see them, wherever a redirect leads.

    A trusted origin is `https://api.example.com`, or `https://*.example.com` for every name below it.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    trusted: tuple[str, ...] = ()

    def headers_for(self, url: URL) -> Mapping[str, str]:
        """The headers for a call of this URL."""
        return self.headers if any(_is_of(url, origin) for origin in self.trusted) else {}


def _is_of(url: URL, origin: str) -> bool:
    scheme, wildcard, domain = origin.partition("://*.")
    if wildcard:
        return url.scheme == scheme and url.explicit_port is None and (url.host or "").endswith(f".{domain}")
    return str(url.origin()) == str(URL(origin).origin())


@dataclass(frozen=True, slots=True)
class Direct:
    get: Get
    sha256: str | None = None  # in the provider's own encoding
    mime_type: str | None = None


@dataclass(frozen=True, slots=True)
class Located:
    """`read` takes the status and the body of the answer (the beginning of a long one), and never raises."""

    get: Get
    read: Callable[[int, bytes], Direct | Failure]


@dataclass(frozen=True, slots=True)
class InWebhook:
    """`read` finds the file in the webhook's body by its content type; None where it is not there. Never raises."""

    read: Callable[[str, bytes], bytes | None]


Source = Direct | Located | InWebhook | Failure


def plain_link(media: Media, credentials: str, settings: Settings) -> Source:
    """The source for a provider whose links need no credentials."""
    return Direct(Get(media.url), media.sha256, media.mime_type) if media.url else Failure("no_source")
