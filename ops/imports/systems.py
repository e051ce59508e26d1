"""Lists the systems that `palomar import` can import, by name."""

from collections.abc import Mapping
from typing import Final

from ops.imports.campaigns.system import CAMPAIGNS
from ops.imports.distributors.system import DISTRIBUTORS
from ops.imports.kommo import KOMMO, KOMMO_TWILIO
from ops.imports.steps import System
from ops.imports.whatsapp_module import WHATSAPP_MODULE

SYSTEMS: Final[Mapping[str, System]] = {
    "kommo": KOMMO,
    "kommo-twilio": KOMMO_TWILIO,
    "distributors": DISTRIBUTORS,
    "whatsapp-module": WHATSAPP_MODULE,
    "campaigns": CAMPAIGNS,
}
