"""Finds the demo channels of all providers, and makes their tenants in the database of a local stack."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Final
from uuid import UUID

import orjson

import ops.demo
from ops.demo.channel import DemoChannel
from shared import database
from shared.crypto import CryptoError, KeyRing
from shared.domain.provider_names import names
from shared.settings import Settings
from shared.store import channels, endpoints

# By what `palomar say --provider` calls them.
DEMOS: Final[Mapping[str, DemoChannel]] = {
    name: demo
    for module in iter_modules(ops.demo.__path__)
    if module.name in names()
    for name, demo in import_module(f"{ops.demo.__name__}.{module.name}").DEMOS.items()
}
USUAL: Final = "twilio"  # the one that `palomar say` and `palomar up` show


async def ensure(settings: Settings) -> None:
    """Make the demo tenants where they are missing, and seal their credentials anew where the keys have changed."""
    keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    connection = await database.connect(settings, process="demo")
    try:
        for demo in DEMOS.values():
            async with connection.transaction():
                await channels.add_tenant(connection, demo.tenant_id, demo.tenant)
                await _ensure_endpoint(connection, keys, demo)
                await _ensure_channel(connection, keys, demo, demo.credentials_here(settings))
    finally:
        await connection.close()


async def _ensure_endpoint(connection: database.Connection, keys: KeyRing, demo: DemoChannel) -> None:
    known = {row.id: row for row in await endpoints.live(connection)}.get(demo.endpoint_id)
    if known is not None and _opens(keys, known.secrets, demo, demo.endpoint_id):
        return
    secrets = keys.seal(orjson.dumps(demo.secrets).decode(), tenant_id=demo.tenant_id, owner=demo.endpoint_id)
    if known is None:
        row = endpoints.EndpointRow(demo.endpoint_id, demo.tenant_id, demo.provider, secrets)
        await endpoints.add(connection, row)
    else:
        await endpoints.set_secrets(connection, demo.endpoint_id, secrets)


async def _ensure_channel(
    connection: database.Connection, keys: KeyRing, demo: DemoChannel, here: Mapping[str, object]
) -> None:
    sealed = await channels.credentials(connection, demo.tenant_id, demo.channel_id)
    if sealed is not None and _opens(keys, sealed, demo, demo.channel_id, here):
        return
    credentials = keys.seal(
        orjson.dumps({**demo.credentials, **here}).decode(), tenant_id=demo.tenant_id, owner=demo.channel_id
    )
    if sealed is not None:
        await channels.set_credentials(connection, demo.tenant_id, demo.channel_id, credentials)
        return
    await channels.add(
        connection,
        channel_id=demo.channel_id,
        tenant_id=demo.tenant_id,
        endpoint_id=demo.endpoint_id,
        provider=demo.provider,
        kind=demo.kind,
        name=demo.name,
        address=demo.address,
        credentials=credentials,
        settings=dict(demo.settings),
    )


def _opens(keys: KeyRing, token: str, demo: DemoChannel, owner: UUID, here: Mapping[str, object] | None = None) -> bool:
    """Whether a secret opens, and says what is so `here`."""
    try:
        opened = keys.open(token, tenant_id=demo.tenant_id, owner=owner)
    except CryptoError:
        return False
    return not here or here.items() <= orjson.loads(opened).items()
