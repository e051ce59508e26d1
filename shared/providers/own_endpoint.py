"""What a channel whose secrets were written by SQL asks of an endpoint of its tenant's own. No I/O."""

from collections.abc import Mapping
from typing import Protocol

Secrets = Mapping[str, object]  # the JSON of a channel's credentials, or of an endpoint's secrets


class OwnEndpoint(Protocol):
    """The endpoint that receives the channel's webhooks, as the channel's secrets describe it."""

    def is_one_with(self, known: Secrets) -> bool:
        """Whether the endpoint with these secrets is of the same account, so that the channel shares it."""
        ...

    def secrets(self, known: Secrets) -> Secrets:
        """An endpoint's secrets, so that it accepts the channel's webhooks. `known` are those that it has so far."""
        ...
