"""The tenant of a local stack: one WhatsApp channel at the sandbox, so that there is somebody to talk to."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

import orjson

from ops.sandbox.openai import MODEL
from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN
from shared import db
from shared.crypto import CryptoError, KeyRing
from shared.settings import Settings
from shared.store import channels, endpoints

_NAMESPACE: Final = UUID("6f1d6c52-6a6f-4d0c-9d53-50616c6f6d61")
ADDRESS: Final = "+14155238886"  # the number of Twilio's own WhatsApp sandbox
CUSTOMER: Final = "+34600000001"

SETTINGS: Final[dict[str, object]] = {
    "reply": {
        "llm": {"model": MODEL},  # what the sandbox's model is called; `channels set` to the engine `llm` suffices
        "greeting": "¡Hola! Soy Palomar. / Hello! This is Palomar.",
        "menu": ["Horario / Opening hours", "Precios / Prices", "Hablar con una persona / Talk to a person"],
        "rules": [
            {
                "patterns": ["*horario*", "*hours*", "*open*"],
                "answer": "Abrimos de lunes a viernes, de 9 a 18. / We open Monday to Friday, 9 to 18.",
            },
            {
                "patterns": ["*precio*", "*price*"],
                "answer": "Una paloma mensajera cuesta 12 €. / A messenger pigeon is 12 €.",
            },
            {
                "patterns": ["*persona*", "*person*"],
                "answer": "Alguien te escribirá enseguida. / Somebody will write to you in a moment.",
            },
        ],
    }
}


@dataclass(frozen=True, slots=True)
class DemoChannel:
    """What a command needs to play a customer of the demo tenant."""

    tenant_id: UUID
    channel_id: UUID
    endpoint_id: UUID
    address: str

    def webhook_url(self, public_url: str) -> str:
        """Where the sandbox sends this customer's messages."""
        return f"{public_url.rstrip('/')}/webhooks/twilio/{self.endpoint_id}"


DEMO: Final = DemoChannel(
    tenant_id=uuid5(_NAMESPACE, "tenant"),
    channel_id=uuid5(_NAMESPACE, "channel"),
    endpoint_id=uuid5(_NAMESPACE, "endpoint"),
    address=ADDRESS,
)


async def ensure(settings: Settings) -> DemoChannel:
    """Make the demo tenant where it is missing, and seal its credentials anew where the keys have changed."""
    keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    connection = await db.connect(settings, process="demo")
    try:
        async with connection.transaction():
            await channels.add_tenant(connection, DEMO.tenant_id, "Palomar demo")
            await _ensure_endpoint(connection, keys)
            await _ensure_channel(connection, keys)
    finally:
        await connection.close()
    return DEMO


async def _ensure_endpoint(connection: db.Connection, keys: KeyRing) -> None:
    known = {row.id: row for row in await endpoints.live(connection)}.get(DEMO.endpoint_id)
    if known is not None and _opens(keys, known.secrets, DEMO.endpoint_id):
        return
    secrets = keys.seal(
        orjson.dumps({"auth_tokens": [AUTH_TOKEN]}).decode(), tenant_id=DEMO.tenant_id, owner=DEMO.endpoint_id
    )
    if known is None:
        await endpoints.add(connection, endpoints.EndpointRow(DEMO.endpoint_id, DEMO.tenant_id, "twilio", secrets))
    else:
        await endpoints.set_secrets(connection, DEMO.endpoint_id, secrets)


async def _ensure_channel(connection: db.Connection, keys: KeyRing) -> None:
    sealed = await channels.credentials(connection, DEMO.tenant_id, DEMO.channel_id)
    if sealed is not None and _opens(keys, sealed, DEMO.channel_id):
        return
    credentials = keys.seal(
        orjson.dumps({"account_sid": ACCOUNT_SID, "auth_token": AUTH_TOKEN}).decode(),
        tenant_id=DEMO.tenant_id,
        owner=DEMO.channel_id,
    )
    if sealed is not None:
        await channels.set_credentials(connection, DEMO.tenant_id, DEMO.channel_id, credentials)
        return
    await channels.add(
        connection,
        channel_id=DEMO.channel_id,
        tenant_id=DEMO.tenant_id,
        endpoint_id=DEMO.endpoint_id,
        provider="twilio",
        kind="whatsapp",
        name="WhatsApp at the sandbox",
        address=ADDRESS,
        credentials=credentials,
        settings=SETTINGS,
    )


def _opens(keys: KeyRing, token: str, owner: UUID) -> bool:
    try:
        keys.open(token, tenant_id=DEMO.tenant_id, owner=owner)
    except CryptoError:
        return False
    return True
