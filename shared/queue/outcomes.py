"""How a handler ends when it does not simply return: raise one of these, the runner does the rest.

The third one is `Locked` of shared/resilience/lock_waits.py.
"""


class Retry(Exception):
    """Try this item again. It goes to the retry queue whose delay is the next at or above `after`.

    Counts as an attempt; after the last step of the ladder the item is dead. Waits above ten minutes, and waits of
    anything that has a row, are due times instead.
    """

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Dead(Exception):
    """No attempt will ever succeed: bury the item in `<queue>.dead` with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
