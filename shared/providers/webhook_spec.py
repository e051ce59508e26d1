"""Defines how a provider declares the webhooks of a URL: how to verify, check and answer them. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import BaseModel

from shared.providers.base import RawWebhook


def is_json(media_type: str, query: str) -> bool:
    """Accepts JSON and nothing else."""
    return media_type == "application/json"


def never(body: bytes) -> bool:
    """Any body may hold a customer's message."""
    return False


def always(body: bytes) -> bool:
    """No body holds a customer's message."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSpec:
    """The webhooks that come to one URL: /webhooks/PROVIDER/ENDPOINT, or a path below it."""

    verify: Callable[[RawWebhook, Sequence[str]], bool]  # (request, secrets) → whether the provider sent it
    signature_hint: str  # how to sign, for the sender of a request that fails `verify`; may name {public_url}
    accepts: Callable[[str, str], bool]  # (media type, query) → whether this may be such a webhook
    accepted_types: str  # for the sender of any other content type
    answer: bytes = b""
    answer_type: str = "text/plain"
    only_receipts: Callable[[bytes], bool] = never  # whether a body holds delivery receipts alone: they queue apart
    challenge: Callable[[str, str], str | None] | None = None  # (query, verify token) → the answer to a verifying GET
    body_limit: int = 0  # bytes, as the provider documents; accepted though our own limit be smaller
    body_timeout_factor: float = 1.0  # of the usual time that a body may take
    extra_segments: tuple[int, ...] = (0,)  # how many path segments may follow
    subpaths: Mapping[str, "WebhookSpec"] = field(default_factory=dict)  # the endpoint's others, by the next segment
    stored_headers: tuple[str, ...] = ()  # of the provider's own, in lower case: what recognises a redelivery
    secret_in_url: bool = False  # the path ends with a secret, because the provider signs nothing

    def at(self, segments: Sequence[str]) -> "WebhookSpec | None":
        """The webhooks whose path goes on with these segments; None where there are none."""
        spec = self
        if segments and segments[0] in self.subpaths:
            spec, segments = self.subpaths[segments[0]], segments[1:]
        return spec if len(segments) in spec.extra_segments and all(segments) else None


class EndpointSecrets(BaseModel):
    """The secrets in an endpoint's sealed JSON. A provider's folder says which of them it has, and adds its own.

    Each list holds several secrets while one is being rotated at the provider.
    """

    EXAMPLE: ClassVar[str]  # the JSON's shape, without a secret

    url_secrets: tuple[str, ...] = ()  # one of them ends the URL where `secret_in_url`
    verify_token: str = ""  # what the provider names when it verifies the URL

    @property
    def signing_secrets(self) -> tuple[str, ...]:
        """One of them signs each webhook."""
        return ()
