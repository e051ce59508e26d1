"""The states of a message template, as its provider approves it. No I/O."""

from typing import Final, Literal

Status = Literal["pending", "approved", "paused", "rejected", "disabled", "gone"]
"""Only an approved template is sent. `gone`: its provider had it once, and lists it no longer."""

GONE: Final[Status] = "gone"
