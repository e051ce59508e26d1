"""Makes a tenant for each one that the source names, and a channel for each WhatsApp instance."""

from typing import Final

from ops.imports.campaigns import tables
from ops.imports.target import Target
from ops.imports.values import our_id
from shared.store.imports.rows import (
    Json,
)
from shared.store.imports.source import Found, Source

PROVIDER: Final = "meta"  # of an instance that is no channel here yet


async def know_tenants(source: Source, found: Found, into: Target) -> None:
    """Tenants, by all that names one; a table of theirs gives them names."""
    ids: set[str] = set()
    for table in (tables.CONTACTS, tables.GROUPS, tables.TEMPLATES, tables.CAMPAIGNS, tables.HISTORY, tables.WEBHOOKS):
        ids |= {one for (one,) in await source.distinct(await source.find(table), "tenant_id") if one}
    names = await _names(source) if await source.has(tables.TENANTS) else {}
    async with into.pool.acquire() as connection, connection.transaction():
        new = await into.add_tenants(connection, {one: (names.get(one), None, Json("{}")) for one in ids})
    into.notes.append(f"Tenants: {len(ids)} in the source, {new} of them new here.")


async def _names(source: Source) -> dict[str, str]:
    rows = await source.distinct(await source.find(tables.TENANTS), "id", "name")
    return {one: name for one, name in rows if one and name}


async def open_instances(source: Source, found: Found, into: Target) -> None:
    """A channel for each WhatsApp instance that a campaign, or a message, went through, and for each that the source
    has a table of, by which it is called."""
    used = set(await source.distinct(found, "tenant_id", "whatsapp_instance_id"))
    named: dict[tuple[str | None, ...], tuple[str | None, str | None]] = {}
    if await source.has(tables.INSTANCES):
        table = await source.find(tables.INSTANCES)
        columns = [name for name in ("tenant_id", "id", "name", "phone_number") if name in table.places]
        for row in await source.distinct(table, *columns):
            one = dict(zip(columns, row, strict=True))
            named[one["tenant_id"], one["id"]] = (one.get("name"), one.get("phone_number"))
    for their_id, instance in sorted(used | set(named), key=str):
        tenant_id = into.tenants.get(their_id or "")
        if tenant_id is not None and instance:
            own_id = our_id(into.system, "whatsapp_instances", tenant_id, instance)
            name = " ".join(filter(None, named.get((their_id, instance), ()))) or None
            await into.open_channel(
                tenant_id, "whatsapp", provider=PROVIDER, only_that=False, call=instance, own_id=own_id, name=name
            )
