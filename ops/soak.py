"""Names the environment variables through which `palomar soak` passes duration and seed to its tests."""

from typing import Final

MINUTES: Final = "PALOMAR_SOAK_MINUTES"
OUTAGE: Final = "PALOMAR_SOAK_OUTAGE"  # minutes
SEED: Final = "PALOMAR_SOAK_SEED"
