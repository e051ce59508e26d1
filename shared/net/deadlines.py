"""Ends calls that take too long: as each may take equally long, one timer serves for all of them.

`asyncio.timeout` makes and cancels a timer for every call, which took a twentieth of what a webhook's delivery costs.
"""

import asyncio
from types import TracebackType
from typing import Final, Self


class Deadlines:
    """Of calls that may take `seconds` each: `with deadlines.one() as deadline:` around each."""

    def __init__(self, seconds: float) -> None:
        self._seconds: Final = seconds
        self._under_way: dict[Deadline, float] = {}  # → time of the loop at which it is over, in this order
        self._timer: asyncio.TimerHandle | None = None

    def one(self) -> "Deadline":
        """The deadline of a call that begins now."""
        return Deadline(self)

    def enter(self, deadline: "Deadline") -> None:
        loop = asyncio.get_running_loop()
        self._under_way[deadline] = by = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(by, self._end_overdue)

    def leave(self, deadline: "Deadline") -> None:
        self._under_way.pop(deadline, None)

    def _end_overdue(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        while self._under_way:
            deadline, by = next(iter(self._under_way.items()))
            if by > loop.time():
                self._timer = loop.call_at(by, self._end_overdue)
                return
            del self._under_way[deadline]
            deadline.end()


class Deadline:
    """A block that is cancelled when its time is over, and raises TimeoutError then, as with `asyncio.timeout`."""

    __slots__ = ("_before", "_deadlines", "_is_over", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._is_over = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None, "a deadline ends a task"
        self._task, self._before = task, task.cancelling()
        self._deadlines.enter(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._deadlines.leave(self)
        canceled = self.has_canceled
        if self._is_over:
            self._task.uncancel()
        if canceled and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    @property
    def has_canceled(self) -> bool:
        """Whether it is this deadline, and nobody else, that cancels the block."""
        return self._is_over and self._task.cancelling() - 1 <= self._before

    def end(self) -> None:
        """Its time is over."""
        self._is_over = True
        self._task.cancel()
