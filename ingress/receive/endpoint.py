"""The endpoint of a webhook URL, and the two interfaces that the receiver calls: directory and durable queue."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from shared.providers.webhook_spec import EndpointSecrets
from shared.queue.jobs import WebhookReceived


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One webhook URL, with the secrets that verify its webhooks."""

    id: UUID
    tenant_id: UUID | None  # None: it serves several tenants
    provider: str
    secrets: EndpointSecrets | None  # None: they can't be opened, so all its webhooks are refused

    @property
    def owner(self) -> UUID:
        """The id against whose bounds its bodies count: the tenant's, which can make any number of endpoints."""
        return self.tenant_id or self.id


class Endpoints(Protocol):
    """The directory of endpoints, in memory."""

    @property
    def unready_reason(self) -> str | None:
        """Why no endpoint is known at all; None once the endpoints are loaded."""
        ...

    def find(self, name: str) -> Endpoint | None:
        """The endpoint with this id, written in any form of a UUID; None where there is none."""
        ...


class WebhookQueue(Protocol):
    """Makes webhooks durable."""

    async def put(self, webhook: WebhookReceived) -> None:
        """Return once the webhook is durable. Raises NotDurable."""
        ...
