"""A number at Meta as the documented table `whatsapp_settings` has it, with its secrets by the names there."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

import orjson

from shared.actions import endpoint_secrets
from shared.actions.channels import Account, onboarding
from shared.crypto import CryptoError, KeyRing
from shared.database import Connection
from shared.providers.endpoint_secrets import texts
from shared.store import channel_records, endpoints
from shared.store.channel_records import ChannelRecord

PROVIDER: Final = "meta"
KIND: Final = "whatsapp"
# The names of the table → those of the provider's account.
FIELDS: Final[Mapping[str, str]] = {
    "businessId": "businessId",
    "accessToken": "accessToken",
    "apiKey": "appSecret",
    "webhookToken": "verifyToken",
}
# Stands in where the number's app is the operator's: of its account only the access token is the tenant's, and used.
OF_OPERATOR: Final = {"businessId": "0", "apiKey": "operators"}


def account(given: Mapping[str, str]) -> Account:
    """The account of these fields, by the table's names. Raises pydantic.ValidationError by the account's names."""
    return onboarding(PROVIDER).account.model_validate({FIELDS[name]: value for name, value in given.items()})


async def get(connection: Connection, tenant_id: UUID, channel_id: UUID, *, lock: bool = False) -> ChannelRecord | None:
    """The settings of this id: a number's channel. None where there is no such number."""
    found = await channel_records.get(connection, tenant_id, channel_id, lock=lock)
    return found if found is not None and (found.provider, found.kind) == (PROVIDER, KIND) else None


async def is_operators(connection: Connection, channel: ChannelRecord) -> bool:
    """Whether the number's app is the operator's: its endpoint serves several tenants, and no tenant's session sees
    it."""
    return channel.endpoint_id is not None and await endpoints.get(connection, channel.endpoint_id) is None


async def known(connection: Connection, keys: KeyRing, channel: ChannelRecord) -> dict[str, str]:
    """The secrets that a number has, by the table's names; without those that don't open, or are the operator's."""
    try:
        opened = keys.open(channel.credentials, tenant_id=channel.tenant_id, owner=channel.id)
        credentials = orjson.loads(opened)
    except (CryptoError, orjson.JSONDecodeError):
        credentials = {}
    row = None if channel.endpoint_id is None else await endpoints.get(connection, channel.endpoint_id)
    secrets = {} if row is None else endpoint_secrets.opened(keys, row)
    found = {
        "businessId": channel.business_id,
        "accessToken": credentials.get("access_token"),
        "apiKey": next(iter(texts(secrets.get("app_secrets"))), None),
        "webhookToken": secrets.get("verify_token"),
    }
    return {name: value for name, value in found.items() if isinstance(value, str)}
