"""palomar keys: the keys that open the management API: add one, list them, revoke one."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from ingress.api import declaration
from ops import connections, erasure, terminal
from ops.errors import Problem
from shared.actions import api_keys as actions
from shared.actions.api_keys import MOST_KEYS, NewKey, TooManyKeys
from shared.domain import api_keys
from shared.settings import settings
from shared.store import api_keys as store
from shared.store.api_keys import ApiKey

app = typer.Typer(no_args_is_help=True)


@app.command()
def add(
    tenant: Annotated[str | None, typer.Option(help="whose: a name or id; needed where there are several")] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="a key of yours instead: it may make tenants, and act for any of them")
    ] = False,
    scope: Annotated[
        list[str] | None, typer.Option(help="such as contacts:read; again for more; all if left out")
    ] = None,
    name: Annotated[str, typer.Option(help="by which you recognise it")] = "",
    days: Annotated[int | None, typer.Option(help="then it expires; never if left out", min=1, max=36_500)] = None,
) -> None:
    """Add a key, and print it: it can't be shown again."""
    scopes = scope or [api_keys.ALL]
    known = declaration.scopes(operator=False) + (declaration.scopes(operator=True) if operator else [])
    if unknown := sorted(set(scopes) - {api_keys.ALL, *known}):
        raise Problem(f"There is no scope {', '.join(unknown)}.", f"There are: *, {', '.join(known)}.")
    if operator and tenant is not None:
        raise Problem("An operator's key belongs to no tenant.", "Leave out --tenant, or --operator.")
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)

    async def session() -> NewKey:
        async with connections.database(settings(), "keys") as pool:
            tenant_id = None if operator else await erasure.tenant(pool, tenant)
            try:
                async with pool.acquire() as connection, connection.transaction():
                    return await actions.create(connection, tenant_id, name[:200], scopes, expires_at)
            except TooManyKeys:
                raise Problem(f"This tenant has {MOST_KEYS} keys.", "Revoke one: ./palomar keys revoke ID") from None

    made = connections.run(session())
    typer.echo(f"Added key {made.stored.id} with {', '.join(made.stored.scopes)}. Store it now, it is not shown again:")
    typer.echo(made.key)


@app.command("list")
def list_() -> None:
    """List the keys that are not revoked: yours, then the tenants'."""

    async def session() -> list[ApiKey]:
        async with connections.database(settings(), "keys") as pool:
            return await store.every(pool)

    table = Table()
    for heading in ("key", "tenant", "name", "begins with", "scopes", "last used", "expires"):
        table.add_column(heading, overflow="fold")
    for one in connections.run(session()):
        table.add_row(
            str(one.id),
            "operator" if one.tenant_id is None else str(one.tenant_id),
            terminal.plain(one.name),
            one.prefix,
            terminal.plain(", ".join(one.scopes)),
            "never" if one.last_used_at is None else f"{one.last_used_at:%Y-%m-%d %H:%M}",
            "never" if one.expires_at is None else f"{one.expires_at:%Y-%m-%d %H:%M}",
        )
    terminal.console().print(table)


@app.command()
def revoke(key: Annotated[str, typer.Argument(help="the key's id, as list prints it", metavar="ID")]) -> None:
    """Revoke a key for good. The API refuses it within five seconds."""
    try:
        key_id = UUID(key)
    except ValueError:
        raise Problem("This is no id of a key.", "Take one from ./palomar keys list.") from None

    async def session() -> ApiKey | None:
        async with connections.database(settings(), "keys") as pool:
            found = next((one for one in await store.every(pool) if one.id == key_id), None)
            if found is None:
                return None
            async with pool.acquire() as connection, connection.transaction():
                return await actions.revoke(connection, found.tenant_id, key_id)

    if connections.run(session()) is None:
        raise Problem("No key has this id, or it has been revoked.", "Take one from ./palomar keys list.")
    typer.echo(f"Revoked key {key_id}.")
