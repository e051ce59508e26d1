"""Prepares an import: its turn, a source that answers and is not ours, a tenant, channels."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from ops import connections
from ops.errors import Problem
from ops.imports.copy import Import, name_of
from ops.imports.meter import Meter
from ops.imports.steps import System
from ops.imports.tally import Compared
from ops.imports.target import Target
from ops.onboarding import channels as numbers
from shared import database
from shared.settings import Settings
from shared.store import channels
from shared.store.imports import progress
from shared.store.imports import source as sources
from shared.store.imports.source import Source

TURN: Final = timedelta(seconds=5)  # to wait for it: a killed import's connection may still be closing


@dataclass(frozen=True, slots=True)
class Asked:
    """As it stands on the command line."""

    system: System
    url: str
    tenant: str | None
    new_tenant: bool
    channels: Sequence[str]
    batch: int
    notes: list[str] = field(default_factory=list)  # what it made, for the person who runs it, also where it ends badly


async def run(settings: Settings, asked: Asked) -> Sequence[Compared]:
    """Both sides, counted. Raises Problem for whatever a person has to decide or to mend."""
    keys = numbers.keyring(settings)
    async with connections.database(settings, "import") as pool, _turn(settings) as ours, _source(asked.url) as source:
        await _refuse_ourselves(ours, source)
        tenant_id = await _tenant(pool, asked)
        chosen = [await numbers.find(pool, named) for named in asked.channels]
        for channel in chosen:
            if tenant_id is not None and channel.tenant_id != tenant_id:
                raise Problem(
                    f"Channel {channel.id} is another tenant's: {channel.tenant}.", "See ./palomar channels list."
                )
        into = Target(asked.system.identity, pool, keys, await source.now(), tenant_id, chosen, asked.notes)
        with Meter() as meter:
            moving = Import(asked.system, source, name_of(asked.url, tenant_id), into, asked.batch, meter)
            try:
                return await moving.run()
            except sources.Missing as error:
                raise Problem(
                    f"The source is no {asked.system.identity} system: {error}.",
                    "Check --from and its search_path, or name another system; no row was copied.",
                ) from error
            except sources.Unreadable as error:
                raise Problem(
                    f"The source can't be read: {error}.", "Run this again: it goes on where it was."
                ) from error


@asynccontextmanager
async def _turn(settings: Settings) -> AsyncIterator[database.Connection]:
    """A connection of ours that holds the imports' lock. Raises Problem where another import runs."""
    connection = await database.connect(settings, process="import")
    try:
        if not await progress.take(connection, progress.LOCK, TURN):
            raise Problem("Another import is running.", "Wait for its end, then run this again.")
        yield connection
    finally:
        with suppress(Exception):
            await connection.close(timeout=2)


@asynccontextmanager
async def _source(url: str) -> AsyncIterator[Source]:
    """The source. Raises Problem where it can't be reached, or is lost."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise Problem(
            "--from is no URL of a PostgreSQL database.", "It reads postgresql://user:password@host/database."
        )
    async with AsyncExitStack() as stack:
        try:
            source = await stack.enter_async_context(sources.opened(url))
        except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            what = str(error) or type(error).__name__
            raise Problem(
                f"The source does not answer: {what}.", "Check --from: host, port, database, user."
            ) from error
        yield source


async def _refuse_ourselves(ours: database.Connection, source: Source) -> None:
    """A lock that only we know of, seen from the source, says that it is our own database."""
    number = secrets.randbits(62)
    await progress.take(ours, number, TURN)
    if await source.holds_lock(number):
        raise Problem("--from is Palomar's own database.", "Name the database of the system you come from.")


async def _tenant(pool: database.Pool, asked: Asked) -> UUID | None:
    """The tenant that all goes to; None where the source brings its own."""
    if asked.system.brings_tenants:
        if asked.tenant is not None or asked.new_tenant:
            raise Problem("This system brings its own tenants.", "Leave --tenant and --new-tenant out.")
        return None
    every = await channels.tenants(pool)
    if asked.tenant is None:
        if len(every) == 1 and not asked.new_tenant:
            return every[0][0]
        names = ", ".join(name for _, name in every[:20]) or "none yet"
        raise Problem("--tenant is missing: whose are these conversations?", f"There are: {names}.")
    found = [tenant_id for tenant_id, name in every if asked.tenant in (name, str(tenant_id))]
    if len(found) > 1:
        raise Problem(
            f"{len(found)} tenants are called {asked.tenant!r}.", f"Give one's id: {', '.join(map(str, found))}."
        )
    if found:
        return found[0]
    if not asked.new_tenant:
        names = ", ".join(name for _, name in every[:20]) or "none yet"
        raise Problem(f"There is no tenant {asked.tenant!r}.", f"Add --new-tenant to make it. There are: {names}.")
    tenant_id = database.new_id()
    async with pool.acquire() as connection:
        await channels.add_tenant(connection, tenant_id, asked.tenant)
    asked.notes.append(f"Made tenant {tenant_id} ({asked.tenant}).")
    return tenant_id
