"""The variables by which `palomar soak` gives its tests their duration and seed."""

from typing import Final

MINUTES: Final = "PALOMAR_SOAK_MINUTES"
OUTAGE: Final = "PALOMAR_SOAK_OUTAGE"  # minutes
SEED: Final = "PALOMAR_SOAK_SEED"
