"""palomar tenants and palomar keys: from nothing to a key that opens the API; and the key that `up` keeps."""

import stat
from uuid import UUID

from ops import demo_key
from ops.demo import tenants
from shared import database
from shared.domain import api_keys
from shared.settings import Settings
from tests.support.api import Tenant, serving
from tests.support.commands import palomar


async def test_a_tenant_and_a_key_are_added_used_listed_and_revoked(
    environment: dict[str, str], settings: Settings
) -> None:
    added = palomar(environment, "tenants", "add", "Café Tienda")
    assert added.returncode == 0, added.stderr
    tenant_id = added.stdout.split()[2].rstrip(".")
    assert UUID(tenant_id)
    assert "Café Tienda" in palomar(environment, "tenants", "list").stdout
    again = palomar(environment, "tenants", "add", "Café Tienda")
    assert again.returncode == 1
    assert tenant_id in again.stderr

    made = palomar(environment, "keys", "add", "--tenant", "Café Tienda", "--scope", "contacts:read", "--name", "shop")
    assert made.returncode == 0, made.stderr
    key = made.stdout.split()[-1]
    assert api_keys.is_well_formed(key)
    listed = palomar(environment, "keys", "list").stdout
    assert key[:12] in listed
    assert key not in listed

    async with serving(settings) as api:
        shop = Tenant(UUID(tenant_id), key, UUID(made.stdout.split()[2]))
        assert (await api.get("/v1/contacts", shop)).status == 200
        operators = palomar(environment, "keys", "add", "--operator").stdout.split()[-1]
        tenants = await api.get("/v1/tenants", shop.with_key(operators))
        assert [one["id"] for one in tenants.body["tenants"]] == [tenant_id]

    assert palomar(environment, "keys", "revoke", str(shop.key_id)).returncode == 0
    assert key[:12] not in palomar(environment, "keys", "list").stdout
    gone = palomar(environment, "keys", "revoke", str(shop.key_id))
    assert gone.returncode == 1
    assert "revoked" in gone.stderr


def test_what_can_be_no_key_is_refused_with_the_remedy(environment: dict[str, str]) -> None:
    for arguments, remedy in (
        (("keys", "add", "--scope", "pigeons:fly"), "contacts:read"),
        (("keys", "add", "--scope", "tenants:read"), "contacts:read"),
        (("keys", "add", "--operator", "--tenant", "x"), "Leave out"),
        (("keys", "revoke", "x"), "keys list"),
        (("tenants", "add", " "), "printable"),
    ):
        refused = palomar(environment, *arguments)
        assert refused.returncode == 1, arguments
        assert remedy in refused.stderr


async def test_up_makes_the_demo_tenants_key_once_and_keeps_it_to_its_user(settings: Settings) -> None:
    await tenants.ensure(settings)
    key = await demo_key.ensure(settings)
    assert key is not None
    file = settings.state_dir / demo_key.FILE
    assert file.read_text() == f"{key}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert await demo_key.ensure(settings) is None, "it is printed once"

    connection = await database.connect(settings, process="test")
    try:
        await connection.execute("UPDATE api_keys SET deleted_at = now()")
    finally:
        await connection.close()
    other = await demo_key.ensure(settings)
    assert other not in (None, key), "one that was revoked is replaced"
