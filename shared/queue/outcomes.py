"""The exceptions by which a handler ends a job: try it again, or dead-letter it.

A handler that simply returns has succeeded; any other exception is a failed attempt. The third exception of ours is
`Locked` of shared/resilience/lock_waits.py.
"""


class Retry(Exception):
    """Try this job again. It goes to the first retry step, from its next one on, that takes `after` seconds or longer.

    Counts as an attempt; after the last step of the retry schedule the job is dead-lettered. A wait of more than ten
    minutes is a due time in the job's row instead, and so is any wait of a job that has a row.
    """

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class DeadLetter(Exception):
    """No attempt will ever succeed: put the job into `<queue>.dead` with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
