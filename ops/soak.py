"""Names the environment variables through which `palomar soak` passes duration and seed to its tests."""

from typing import Final

MINUTES: Final = "PALOMAR_SOAK_MINUTES"
OUTAGE: Final = "PALOMAR_SOAK_OUTAGE"  # minutes
RECIPIENTS: Final = "PALOMAR_SOAK_RECIPIENTS"  # of the campaign whose workers are killed
EVENTS: Final = "PALOMAR_SOAK_EVENTS"  # to a webhook that is down for two days
SEED: Final = "PALOMAR_SOAK_SEED"
