"""palomar tenants: the businesses that this installation serves: add one, list them."""

from typing import Annotated

import typer
from rich.table import Table

from ops import connections, terminal
from ops.errors import Problem
from shared.actions import tenants as actions
from shared.actions.tenants import NameTaken
from shared.settings import settings
from shared.store import tenants as store
from shared.store.tenants import Tenant

AT_ONCE = 200  # tenants a query

app = typer.Typer(no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="for people, and for --tenant of other commands", metavar="NAME")],
) -> None:
    """Add a tenant. Its first key comes from palomar keys add."""
    checked = name.strip()
    if not 1 <= len(checked) <= 200 or not checked.isprintable():
        raise Problem("This is no name.", "Give 1 to 200 printable characters.")

    async def session() -> Tenant:
        async with connections.database(settings(), "tenants") as pool, pool.acquire() as connection:
            try:
                async with connection.transaction():
                    return await actions.create(connection, checked)
            except NameTaken as taken:
                raise Problem(f"Tenant {taken.tenant_id} has this name.", "Choose another one.") from None

    made = connections.run(session())
    typer.echo(f"Added tenant {made.id}.\nIts first key: ./palomar keys add --tenant {made.id}")


@app.command("list")
def list_() -> None:
    """List the tenants, oldest first."""

    async def session() -> list[Tenant]:
        found: list[Tenant] = []
        async with connections.database(settings(), "tenants") as pool, pool.acquire() as connection:
            while True:
                after = (found[-1].created_at, found[-1].id) if found else None
                page = await store.page(connection, after, AT_ONCE)
                found += page
                if len(page) < AT_ONCE:
                    return found

    table = Table()
    for heading in ("tenant", "name", "since"):
        table.add_column(heading, overflow="fold")
    for one in connections.run(session()):
        table.add_row(str(one.id), terminal.plain(one.name), f"{one.created_at:%Y-%m-%d %H:%M}")
    terminal.console().print(table)
