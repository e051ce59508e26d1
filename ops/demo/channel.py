"""What a demo channel is: the rows that it has, and how the sandbox plays a customer who writes to it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid5

from ops.sandbox.client import SandboxClient
from ops.sandbox.observations import CustomerAnswer
from ops.sandbox.openai import MODEL
from shared.domain.model import ChannelKind
from shared.settings import Settings

_NAMESPACE: Final = UUID("6f1d6c52-6a6f-4d0c-9d53-50616c6f6d61")
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


def demo_id(name: str) -> UUID:
    """The id of a demo tenant's row: the same one on every machine."""
    return uuid5(_NAMESPACE, name)


def _nothing(_: Settings) -> Mapping[str, object]:
    return {}


@dataclass(frozen=True, slots=True)
class Play:
    """What a customer of the sandbox does: `sender` writes `text` to `channel`, whose webhook URL is `url`."""

    channel: "DemoChannel"
    sender: str
    text: str
    url: str


@dataclass(frozen=True, slots=True)
class DemoChannel:
    """What a command needs to play a customer of a demo tenant, and what its rows hold.

    Each channel has a tenant of its own: whoever writes by SQL need not name the channel of a tenant that has only one.
    """

    tenant_id: UUID
    channel_id: UUID
    endpoint_id: UUID
    address: str
    provider: str
    tenant: str  # its name
    secrets: Mapping[str, object] = field(repr=False)
    credentials: Mapping[str, object] = field(repr=False)
    write: Callable[[SandboxClient, Play], Awaitable[CustomerAnswer]]  # lets the sandbox's customer write
    written: Callable[[str], str] = str  # how the provider writes a number or an address, and so how we answer it
    credentials_here: Callable[[Settings], Mapping[str, object]] = _nothing  # those that the sandbox has this time
    last_hop: str = "delivered"  # what the provider reports last
    kind: ChannelKind = "whatsapp"
    name: str = "WhatsApp at the sandbox"
    customer: str = CUSTOMER  # who writes, unless a command names another
    url_secret: str = field(default="", repr=False)  # what the webhook URL ends with, where nothing is signed
    settings: Mapping[str, object] = field(default_factory=lambda: SETTINGS)

    def webhook_url(self, public_url: str) -> str:
        """Where the sandbox sends this customer's messages."""
        url = f"{public_url.rstrip('/')}/webhooks/{self.provider}/{self.endpoint_id}"
        return f"{url}/{self.url_secret}" if self.url_secret else url
