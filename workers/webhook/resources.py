"""What the turns of one process share: keys, the way out, and the limits of what is under way."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from shared import database
from shared.crypto import KeyRing
from shared.http.connections import raise_descriptor_limit
from shared.process.tasks import cancel
from shared.resilience.bulkhead import Bulkhead, SharedBulkhead
from shared.settings import Settings
from shared.store.webhook_deliveries.facts import Key
from workers.webhook.pace import Paces, Places
from workers.webhook.signers import Signers
from workers.webhook.way import open_way

if TYPE_CHECKING:
    from workers.webhook.desk import Desk
    from workers.webhook.turn import Delivering

TURNS: Final = 256  # webhooks at once; most of the time they wait for answers
POSTS: Final = 1024  # attempts at once, with those whose end is being recorded


class Answer(Protocol):
    """What became of a POST."""

    @property
    def status(self) -> int | None: ...
    @property
    def body(self) -> bytes: ...
    @property
    def retry_after(self) -> float | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def sent_again(self) -> float | None: ...


class Way(Protocol):
    """The way out to the systems of tenants."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Never raises for what the other side does."""
        ...


@dataclass
class Resources:
    """Of one process. `holder` is its name in the rows that it holds."""

    signers: Signers
    way: Way
    paces: Paces
    holder: UUID = field(default_factory=database.new_id)
    turns: Bulkhead = field(default_factory=lambda: SharedBulkhead[None](TURNS))
    places: Places = field(default_factory=lambda: Places(POSTS))
    held: dict[Key, bool] = field(default_factory=dict)  # whose turn is under way here → whether a job came meanwhile
    open: dict[Key, "Delivering"] = field(default_factory=dict)  # the turns of these
    straight: set[asyncio.Task[None]] = field(default_factory=set)  # the turns that matching began
    desk: "Desk | None" = None
    idle: set[Key] = field(default_factory=set)  # webhooks whose last turn found nothing that it could do


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    now = asyncio.get_running_loop().time
    raise_descriptor_limit()  # each attempt may have a connection of its own
    async with open_way(settings) as way:
        resources = Resources(Signers(keys), way, Paces(settings.webhook_concurrency, settings.webhook_rate, now))
        yield resources
        if resources.straight:  # they end with what they have in hand
            _, left = await asyncio.wait(resources.straight, timeout=settings.stop_grace)
            await cancel(left)
