"""Finds, makes and shows campaigns for the palomar command, with the checks and the actions of the API."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import ValidationError

from ingress.api import problems
from ingress.api.campaign_models import CreateCampaign, written
from ingress.api.campaign_parts import check
from ops import connections, erasure
from ops.errors import Problem
from shared.actions import campaign_start
from shared.actions import campaigns as actions
from shared.actions.campaign_again import NotOver
from shared.actions.campaign_life import NotNow
from shared.actions.campaign_start import NotReady
from shared.actions.messages import NotQueued
from shared.database import Connection, Pool
from shared.domain.campaigns.life import MOVES
from shared.queue.connection import BrokerAway, PublishFailed
from shared.queue.jobs import Job
from shared.settings import settings
from shared.store import channels, contact_batches, message_templates
from shared.store.campaigns import records
from shared.store.campaigns.records import Campaign, CampaignValues

_SEE: Final = "See palomar campaigns list."


@dataclass(frozen=True, slots=True)
class Asked:
    """A campaign as the options of `palomar campaigns create` describe it."""

    name: str
    channel: str | None = None
    message: str | None = None
    template: str | None = None
    groups: Sequence[str] = ()
    everyone: bool = False
    variables: Mapping[str, str] | None = None
    every: str | None = None
    timezone: str | None = None
    settings: Path | None = None


async def find(pool: Pool, tenant: str | None, named: str) -> Campaign:
    """The campaign with this id or name. Raises Problem."""
    tenant_id = await erasure.tenant(pool, tenant)
    async with pool.acquire() as connection:
        if (campaign_id := _id(named)) is not None:
            one = await records.get(connection, tenant_id, campaign_id)
            found = [] if one is None or one.deleted_at is not None else [one]
        else:
            found = await records.named(connection, tenant_id, named)
    if len(found) == 1:
        return found[0]
    ids = ", ".join(str(one.id) for one in found)
    raise Problem(
        f"{len(found) or 'No'} campaigns of this tenant are called {named!r}.",
        f"Give an id: {ids}." if found else _SEE,
    )


async def create(pool: Pool, tenant: str | None, asked: Asked, starts: datetime | None) -> Campaign:
    """Create a draft, and schedule it where a time is given. Raises Problem that names what is wrong."""
    tenant_id = await erasure.tenant(pool, tenant)
    async with refusals(), connections.transaction(pool) as connection:
        given = await _input(connection, tenant_id, asked)
        try:
            model = CreateCampaign.model_validate(given, strict=False)
        except ValidationError as error:
            raise problems.of_validation(error) from None
        before = CampaignValues(model.whatsapp_instance_id, None, model.name, None, None, ())
        values = written(model, before, lambda url, *_: url)
        await check(connection, tenant_id, values, set(CreateCampaign.model_fields))
        made = await actions.create(connection, tenant_id, values)
        if starts is not None:
            await campaign_start.schedule(connection, tenant_id, made.id, starts)
        return made


def moment(written_at: str) -> datetime:
    """A time as a person writes it. Raises Problem."""
    try:
        return datetime.fromisoformat(written_at)
    except ValueError:
        raise Problem(f"{written_at!r} is no time.", "Write it as 2027-01-07T09:00.") from None


async def publish(jobs: Sequence[Job]) -> bool:
    """Publish jobs whose rows are committed; False where the broker is away: then the clock publishes them."""
    if not jobs:
        return True
    try:
        async with connections.publisher(settings(), "campaigns") as publisher:
            for job in jobs:
                await publisher.publish(job)
    except (Problem, BrokerAway, PublishFailed):
        return False
    return True


@asynccontextmanager
async def refusals() -> AsyncIterator[None]:
    """Turn what the API's checks and a campaign's actions refuse into a Problem of the command's."""
    try:
        yield
    except problems.Problem as problem:
        first = problem.errors[0] if problem.errors else None
        raise Problem(problem.detail, "" if first is None else first.remedy) from None
    except NotReady as refused:
        wrong, *more = refused.wrongs
        further = f" {len(more)} more things are wrong." if more else ""
        raise Problem(f"{'.'.join(wrong.field)}: {wrong.reason}{further}", wrong.remedy) from None
    except NotQueued as refused:
        raise Problem(refused.reason, "Change what it says, or send it to another address.") from None
    except NotOver as refused:
        raise Problem(f"The campaign is {refused.status}.", "Wait until it has ended, or cancel it.") from None
    except NotNow as refused:
        states = " or ".join(sorted(MOVES[refused.step].start))
        raise Problem(f"The campaign is {refused.status}.", f"It must be {states} for this.") from None


async def _input(connection: Connection, tenant_id: UUID, asked: Asked) -> dict[str, Any]:
    """The input of campaigns.create that the options stand for, with ids for names. Raises Problem."""
    given: dict[str, Any] = {
        "name": asked.name,
        "whatsappInstanceId": await channel_id(connection, tenant_id, asked.channel),
        "message": asked.message,
        "variables": dict(asked.variables or {}),
        "recurrence": asked.every,
        "timezone": asked.timezone,
    }
    if asked.template is not None:
        given["messageTemplateId"] = await _template(connection, tenant_id, asked.template)
    if asked.groups:
        given |= {"recipientType": "groups", "recipientIds": await _groups(connection, tenant_id, asked.groups)}
    elif asked.everyone:
        given["recipientType"] = "all"
    if asked.settings is not None:
        given["settings"] = _file(asked.settings)
    return given


async def channel_id(connection: Connection, tenant_id: UUID, named: str | None) -> UUID:
    every = [one for one in await channels.listed(connection) if one.tenant_id == tenant_id]
    found = [one for one in every if named in (None, str(one.id), one.address, one.name, one.kind)]
    if len(found) == 1:
        return found[0].id
    known = (
        ", ".join(f"{one.kind} {one.address} ({one.id})" for one in every) or "none; add one with palomar channels add"
    )
    which = "Which channel sends it?" if named is None else f"{len(found) or 'No'} channels are called {named!r}."
    raise Problem(which, f"Give --channel with an id. There are: {known}.")


async def _template(connection: Connection, tenant_id: UUID, named: str) -> UUID:
    if (template_id := _id(named)) is not None:
        return template_id
    found = await message_templates.named(connection, tenant_id, named)
    if len(found) == 1:
        return found[0].id
    ids = ", ".join(f"{one.id} ({one.values.language or 'any language'})" for one in found)
    raise Problem(
        f"{len(found) or 'No'} templates are called {named!r}.",
        f"Give an id: {ids}." if found else "Give the name or id of a template: messageTemplates.list has them.",
    )


async def _groups(connection: Connection, tenant_id: UUID, named: Sequence[str]) -> list[UUID]:
    known = await contact_batches.groups(connection, tenant_id, [one for one in named if _id(one) is None])
    for one in named:
        if _id(one) is None and one not in known:
            raise Problem(f"No group is called {one!r}.", "Make it: palomar contacts import FILE --group NAME.")
    return [_id(one) or known[one] for one in named]


def _file(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Problem(f"{path} can't be read: {error}.", "Name a JSON file with the settings of a campaign.") from error


def _id(named: str) -> UUID | None:
    try:
        return UUID(named)
    except ValueError:
        return None
