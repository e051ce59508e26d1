"""The tenants of a local stack: a channel at each provider the sandbox plays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid5

import orjson

from ops.sandbox import email_forms
from ops.sandbox.kommo_forms import BOT_ID, CHANNEL_SECRET, SCOPE_ID, URL_SECRET
from ops.sandbox.meta_forms import ACCESS_TOKEN, APP_SECRET, PHONE_NUMBER_ID, VERIFY_TOKEN
from ops.sandbox.openai import MODEL
from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN
from shared import database
from shared.crypto import CryptoError, KeyRing
from shared.domain.model import ChannelKind
from shared.settings import Settings
from shared.store import channels, endpoints

_NAMESPACE: Final = UUID("6f1d6c52-6a6f-4d0c-9d53-50616c6f6d61")
ADDRESS: Final = "+14155238886"  # the number of Twilio's own WhatsApp sandbox
CUSTOMER: Final = "+34600000001"
MAIL_CUSTOMER: Final = "ana@customer.example"

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
    """What a command needs to play a customer of a demo tenant, and what its rows hold."""

    tenant_id: UUID
    channel_id: UUID
    endpoint_id: UUID
    address: str
    provider: str
    tenant: str  # its name
    secrets: Mapping[str, object] = field(repr=False)
    credentials: Mapping[str, object] = field(repr=False)
    kind: ChannelKind = "whatsapp"
    name: str = "WhatsApp at the sandbox"
    customer: str = CUSTOMER  # who writes where nobody is named
    url_secret: str = field(default="", repr=False)  # what the webhook URL ends with, where nothing is signed
    settings: Mapping[str, object] = field(default_factory=lambda: SETTINGS)

    def webhook_url(self, public_url: str) -> str:
        """Where the sandbox sends this customer's messages."""
        url = f"{public_url.rstrip('/')}/webhooks/{self.provider}/{self.endpoint_id}"
        return f"{url}/{self.url_secret}" if self.url_secret else url

    def opened(self, settings: Settings) -> Mapping[str, object]:
        """The credentials; those of a mailbox name the port that the sandbox has this time."""
        return {**self.credentials, "port": settings.sandbox_smtp_port} if self.kind == "email" else self.credentials


DEMO: Final = DemoChannel(
    tenant_id=uuid5(_NAMESPACE, "tenant"),
    channel_id=uuid5(_NAMESPACE, "channel"),
    endpoint_id=uuid5(_NAMESPACE, "endpoint"),
    address=ADDRESS,
    provider="twilio",
    tenant="Palomar demo",
    secrets={"auth_tokens": [AUTH_TOKEN]},
    credentials={"account_sid": ACCOUNT_SID, "auth_token": AUTH_TOKEN},
)
# A tenant of its own: who writes by SQL names no channel where the tenant has only one.
DEMO_META: Final = DemoChannel(
    tenant_id=uuid5(_NAMESPACE, "tenant at Meta"),
    channel_id=uuid5(_NAMESPACE, "channel at Meta"),
    endpoint_id=uuid5(_NAMESPACE, "endpoint at Meta"),
    address=PHONE_NUMBER_ID,
    provider="meta",
    tenant="Palomar demo at Meta",
    secrets={"app_secrets": [APP_SECRET], "verify_token": VERIFY_TOKEN},
    credentials={"access_token": ACCESS_TOKEN},
)
DEMO_SMS: Final = DemoChannel(
    tenant_id=uuid5(_NAMESPACE, "tenant by SMS"),
    channel_id=uuid5(_NAMESPACE, "channel by SMS"),
    endpoint_id=uuid5(_NAMESPACE, "endpoint by SMS"),
    address=ADDRESS,
    provider="twilio",
    tenant="Palomar demo by SMS",
    secrets={"auth_tokens": [AUTH_TOKEN]},
    credentials={"account_sid": ACCOUNT_SID, "auth_token": AUTH_TOKEN},
    kind="sms",
    name="SMS at the sandbox",
)
DEMO_EMAIL: Final = DemoChannel(
    tenant_id=uuid5(_NAMESPACE, "tenant by e-mail"),
    channel_id=uuid5(_NAMESPACE, "channel by e-mail"),
    endpoint_id=uuid5(_NAMESPACE, "endpoint by e-mail"),
    address=email_forms.ADDRESS,
    provider="email",
    tenant="Palomar demo by e-mail",
    secrets={"url_secrets": [email_forms.URL_SECRET]},
    credentials={
        "host": "127.0.0.1", "tls": "none", "user": email_forms.USER, "password": email_forms.PASSWORD,
        "from_name": "Palomar",
    },
    kind="email",
    name="E-mail at the sandbox",
    customer=MAIL_CUSTOMER,
    url_secret=email_forms.URL_SECRET,
)  # fmt: skip
DEMO_KOMMO: Final = DemoChannel(
    tenant_id=uuid5(_NAMESPACE, "tenant at Kommo"),
    channel_id=uuid5(_NAMESPACE, "channel at Kommo"),
    endpoint_id=uuid5(_NAMESPACE, "endpoint at Kommo"),
    address=SCOPE_ID,
    provider="kommo",
    tenant="Palomar demo at Kommo",
    secrets={"channel_secrets": [CHANNEL_SECRET], "url_secrets": [URL_SECRET]},
    credentials={"secret": CHANNEL_SECRET, "bot_id": BOT_ID},
    settings={**SETTINGS, "manager": {"own_bot": BOT_ID}},
    url_secret=URL_SECRET,
)
# By what `palomar say --provider` calls them.
DEMOS: Final = {"twilio": DEMO, "meta": DEMO_META, "sms": DEMO_SMS, "kommo": DEMO_KOMMO, "email": DEMO_EMAIL}


async def ensure(settings: Settings) -> None:
    """Make the demo tenants where they are missing, and seal their credentials anew where the keys have changed."""
    keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    connection = await database.connect(settings, process="demo")
    try:
        for demo in DEMOS.values():
            async with connection.transaction():
                await channels.add_tenant(connection, demo.tenant_id, demo.tenant)
                await _ensure_endpoint(connection, keys, demo)
                await _ensure_channel(connection, keys, demo, demo.opened(settings))
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
    connection: database.Connection, keys: KeyRing, demo: DemoChannel, opened: Mapping[str, object]
) -> None:
    sealed = await channels.credentials(connection, demo.tenant_id, demo.channel_id)
    if sealed is not None and _opens(keys, sealed, demo, demo.channel_id, port=opened.get("port")):
        return
    credentials = keys.seal(orjson.dumps(opened).decode(), tenant_id=demo.tenant_id, owner=demo.channel_id)
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


def _opens(keys: KeyRing, token: str, demo: DemoChannel, owner: UUID, *, port: object = None) -> bool:
    """Whether a secret opens, and says this port where one is named."""
    try:
        opened = keys.open(token, tenant_id=demo.tenant_id, owner=owner)
    except CryptoError:
        return False
    return port is None or orjson.loads(opened).get("port") == port
