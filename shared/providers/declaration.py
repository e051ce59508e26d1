"""Defines what a folder of a provider declares to the rest of the system: one `Provider`, named `PROVIDER`."""

from collections.abc import Callable
from dataclasses import dataclass

from shared.domain.channels import Unknown
from shared.domain.model import AddressKind, Media, Outgoing
from shared.providers.base import Parsed, RawWebhook, Refusal, Sender
from shared.providers.media_source import Source, plain_link
from shared.providers.onboarding import Onboarding
from shared.providers.own_endpoint import OwnEndpoint, Secrets
from shared.providers.templates import ListTemplates
from shared.providers.webhook_spec import EndpointSecrets, WebhookSpec
from shared.settings import Settings


def _unclassified(code: str) -> None:
    """The meaning of a failure receipt's code where the provider documents none."""


def _never(code: str) -> bool:
    """Of a provider that documents no codes: a failed message is not worth a new attempt."""
    return False


def _takes_all(message: Outgoing) -> None:
    """Of a provider that takes every content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider. A field with a default is for the providers that differ from most."""

    # -- webhooks --------------------------------------------------------------------------------------------------
    webhooks: WebhookSpec
    endpoint_secrets: type[EndpointSecrets]
    # The endpoint that the clock makes for a channel with these credentials (JSON, opened), written by SQL; None where
    # they don't suffice. Where a provider has no such function, only an operator makes endpoints.
    own_endpoint: Callable[[Secrets], OwnEndpoint | None] | None = None
    parse: Callable[[RawWebhook], Parsed]  # all of a webhook; never raises for what it holds
    parses_nul: bool = False  # `parse` replaces U+0000 itself; for all others it is replaced in the whole body

    # -- adding a channel ------------------------------------------------------------------------------------------
    onboarding: Onboarding | None = None  # None: only an operator adds channels, by SQL

    # -- sends -----------------------------------------------------------------------------------------------------
    # A sender for one channel's credentials (JSON, opened), made inside a running loop. Raises ValueError that names
    # each wrong field, and none of their values.
    make_sender: Callable[[str, Settings], Sender]
    error_class: Callable[[str], type[Refusal] | None]  # the meaning of an error code; None: unknown
    # The meaning of a code in the receipt of a message that the provider had accepted and failed to deliver.
    refusal_by_receipt: Callable[[str], Refusal | None] = _unclassified
    # Whether a new attempt makes sense for a `failed` message with this `error_code`: later, or once an operator has
    # repaired the channel or the template. Never for a message whose outcome is unknown: that shows by its status.
    retryable: Callable[[str], bool] = _never
    rate: float = 80.0  # messages per second of a channel whose settings name no rate: a WhatsApp sender's
    counts_inbound: bool = False  # its limit counts what customers write too; campaigns leave room for that
    pair_interval: float = 0.0  # seconds between two messages to one recipient; bulk messages keep to it
    states_pricing: bool = False  # a receipt of a delivered message says how it is charged: `metadata.pricing`
    # Why it does not send a message with this text, these files or buttons, as far as that shows without a call and
    # without the address: a sentence that begins with the part. None: it does.
    content_problem: Callable[[Outgoing], str | None] = _takes_all
    address_kinds: tuple[AddressKind, ...] = ("phone",)  # by which it reaches a contact, the best first
    longest_text: int = 65_536  # characters of a message's text; of a mail no provider names a bound
    unknown: Unknown = "give_up"  # the policy for sends of unknown outcome, of a channel whose settings name none
    max_attachment_bytes: int = 0  # of the files that leave inside one message; 0: the provider fetches links itself
    # Each bulk message has a link for unsubscribing (`Outgoing.unsubscribe`). A click comes to `parse` as a webhook
    # whose URL is that link, without the proof at its end.
    unsubscribe_links: bool = False
    read_receipts: bool = False  # its Sender is a `base.Reader`
    agent_reports: bool = False  # its Sender is a `base.Reporter`

    # -- message templates -----------------------------------------------------------------------------------------
    list_templates: ListTemplates | None = None  # None: it has none to list

    # -- files that customers send ---------------------------------------------------------------------------------
    # Where a file lies, for the channel's credentials (JSON, opened). Raises ValueError where they are needed and
    # can't be read.
    media_source: Callable[[Media, str, Settings], Source] = plain_link
