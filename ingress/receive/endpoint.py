"""A webhook URL as the receiving part knows it, and what it asks of the directory and of whoever stores webhooks."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from shared.providers.webhook_spec import EndpointSecrets
from shared.queue.jobs import WebhookReceived


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One webhook URL, as verifying needs it."""

    id: UUID
    tenant_id: UUID | None  # None: it serves several tenants
    provider: str
    secrets: EndpointSecrets | None  # None: they can't be opened, so all its webhooks are refused

    @property
    def owner(self) -> UUID:
        """On whose account its bodies count: all of a tenant's together, which may make as many as it likes."""
        return self.tenant_id or self.id


class Endpoints(Protocol):
    """The directory of endpoints, in memory."""

    @property
    def unready_reason(self) -> str | None:
        """Why no endpoint is known at all; None when they are."""
        ...

    def find(self, name: str) -> Endpoint | None:
        """The endpoint of this id as it stands in the URL, if there is one."""
        ...


class WebhookQueue(Protocol):
    async def put(self, webhook: WebhookReceived) -> None:
        """Return once it is durable. Raises NotDurable."""
        ...
