"""Finds, makes and shows tenants' webhooks for the palomar command, with the checks and the actions of the API."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import aiohttp
from pydantic import ValidationError

from ingress.api import problems, public_urls
from ingress.api.webhook_models import CreateWebhook
from ops import campaigns, connections, erasure
from ops.errors import Problem
from ops.onboarding.channels import keyring
from shared.actions import webhooks as actions
from shared.actions.webhook_replays import TooManyRanges
from shared.actions.webhooks import NewWebhook
from shared.database import Connection, Pool
from shared.domain import public_events
from shared.domain.public_events import PublicEvent
from shared.queue.jobs import WebhookDue
from shared.settings import settings
from shared.store import webhooks as store
from shared.store.webhook_deliveries.replays import MOST_RANGES
from shared.store.webhooks import MOST_WEBHOOKS, Webhook, WebhookValues

EVENTS: Final[dict[str, PublicEvent]] = {one.name: one for one in public_events.EVENTS}
SANDBOX_WITHIN: Final = 5.0  # seconds
_SEE: Final = "See palomar webhooks list."
_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A webhook as the options of `palomar webhooks add` describe it."""

    name: str
    url: str
    events: Sequence[str]
    channels: Sequence[str] = ()
    direction: str | None = None
    tags: Sequence[str] = ()
    in_order: bool = False


async def find(pool: Pool, tenant: str | None, named: str) -> Webhook:
    """The webhook with this id or name. Raises Problem."""
    tenant_id = None if tenant is None and _is_id(named) else await erasure.tenant(pool, tenant)
    async with pool.acquire() as connection:
        found = await store.named(connection, tenant_id, named)
    if len(found) == 1:
        return found[0]
    ids = ", ".join(str(one.id) for one in found)
    raise Problem(f"{len(found) or 'No'} webhooks are called {named!r}.", f"Give an id: {ids}." if found else _SEE)


async def add(pool: Pool, tenant: str | None, asked: Asked) -> NewWebhook:
    """Create a webhook. Raises Problem that names what is wrong."""
    tenant_id = await erasure.tenant(pool, tenant)
    keys = keyring(settings())
    async with refusals(), connections.transaction(pool) as connection:
        given: dict[str, Any] = {
            "name": asked.name,
            "url": asked.url,
            "events": list(asked.events),
            "channelIds": [await campaigns.channel_id(connection, tenant_id, one) for one in asked.channels],
            "direction": asked.direction,
            "tags": list(asked.tags),
            "inOrder": asked.in_order,
        }
        try:
            model = CreateWebhook.model_validate(given, strict=False)
        except ValidationError as error:
            raise problems.of_validation(error) from None
        if await store.count(connection, tenant_id) >= MOST_WEBHOOKS:
            raise Problem(f"The tenant has {MOST_WEBHOOKS} webhooks, which is the most.", "Delete one of them.")
        values = WebhookValues(
            name=model.name,
            url=public_urls.of_webhook(settings(), model.url, "url"),
            events=tuple(model.events),
            is_active=True,
            channel_ids=tuple(model.channel_ids or ()),
            direction=model.direction,
            tags=tuple(model.tags or ()),
            in_order=bool(model.in_order),
        )
        return await actions.create(connection, keys, tenant_id, values)


@asynccontextmanager
async def refusals() -> AsyncIterator[None]:
    """Turn what the API's checks and the actions refuse into a Problem of the command's."""
    try:
        yield
    except problems.Problem as problem:
        first = problem.errors[0] if problem.errors else None
        raise Problem(problem.detail, "" if first is None else first.remedy) from None
    except TooManyRanges:
        raise Problem(
            f"{MOST_RANGES} replays of this webhook are under way.", "Wait until one of them is done."
        ) from None


async def wake(webhook: Webhook) -> bool:
    """Have the webhook's worker look at it at once; False where the broker is away: it looks within seconds then."""
    return await campaigns.publish([WebhookDue(tenant_id=webhook.tenant_id, webhook_id=webhook.id)])


async def known_to_sandbox(made: NewWebhook) -> NewWebhook:
    """The same webhook. Where it leads to the sandbox, that knows the keys then, by which it verifies what comes."""
    url, sandbox = made.stored.values.url, settings().sandbox_url.rstrip("/")
    if not sandbox or not url.startswith(f"{sandbox}/"):
        return made
    keys = [key for key in (made.secret, made.stored.public_key) if key]
    with suppress(aiohttp.ClientError, TimeoutError):  # it shows what comes all the same
        async with aiohttp.ClientSession(sandbox, timeout=aiohttp.ClientTimeout(total=SANDBOX_WITHIN)) as session:
            await session.post("/sandbox/webhooks/keys", json={"url": url, "keys": keys})
    return made


async def locked(connection: Connection, webhook: Webhook) -> Webhook:
    """The webhook as it is now, locked. Raises Problem where it was deleted meanwhile."""
    found = await store.get(connection, webhook.tenant_id, webhook.id, lock=True)
    if found is None or found.deleted_at is not None:
        raise Problem("The webhook was deleted meanwhile.", _SEE)
    return found


def event(name: str) -> PublicEvent:
    """The event of this name. Raises Problem."""
    if name not in EVENTS:
        raise Problem(f"There is no event {name!r}.", "See palomar webhooks events.")
    return EVENTS[name]


def moment(written: str) -> datetime:
    """A time as a person writes it: `2h` is two hours ago, else ISO 8601, by this machine's clock where it names no
    zone. Raises Problem."""
    unit = _UNITS.get(written[-1:])
    if unit is not None and written[:-1].isdecimal() and len(written) <= 6:
        return datetime.now(UTC) - timedelta(**{unit: int(written[:-1])})
    return campaigns.moment(written).astimezone(UTC)


def _is_id(named: str) -> bool:
    try:
        UUID(named)
    except ValueError:
        return False
    return True
