"""Finds the webhook spec of a URL: /webhooks/PROVIDER/ENDPOINT, and what follows it. No I/O."""

from collections.abc import Mapping, Sequence

from shared.providers import names, provider
from shared.providers.webhook_spec import WebhookSpec

WEBHOOKS: Mapping[str, WebhookSpec] = {name: provider(name).webhooks for name in names()}
# Whose bulk messages have a link for unsubscribing.
UNSUBSCRIBING = frozenset(name for name in names() if provider(name).unsubscribe_links)


def spec_at(provider: str, segments: Sequence[str]) -> WebhookSpec | None:
    """The spec for /webhooks/PROVIDER/ENDPOINT/SEGMENTS; None where there are no webhooks."""
    spec = WEBHOOKS.get(provider)
    return spec.at(segments) if spec is not None else None
