"""How `palomar soak` tells its tests for how long, and with which seed: by the environment."""

from typing import Final

MINUTES: Final = "PALOMAR_SOAK_MINUTES"
OUTAGE: Final = "PALOMAR_SOAK_OUTAGE"  # minutes
SEED: Final = "PALOMAR_SOAK_SEED"
