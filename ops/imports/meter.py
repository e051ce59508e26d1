"""Shows the progress of an import on standard error: bars in a terminal, else plain lines."""

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Self

from rich.progress import Progress, TaskID

from ops import terminal

PAUSE: Final = 5.0  # seconds between two plain lines of a table, but for its first and its last


class Meter(AbstractContextManager["Meter"]):
    """One table after the other."""

    def __init__(self) -> None:
        self._bars: Progress | None = terminal.progress() if sys.stderr.isatty() else None
        self._task: TaskID | None = None
        self._name = ""
        self._total = self._done = 0
        self._printed_at = float("-inf")

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def begin(self, name: str, done: int, total: int) -> None:
        """A table of so many rows, of which so many are in from before."""
        self._name, self._done, self._total, self._printed_at = name, done, total, float("-inf")
        if self._bars is not None:
            self._task = self._bars.add_task(name, completed=done, total=total)
        elif done:
            self._line("going on at")

    def advance(self, rows: int) -> None:
        self._done += rows
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, advance=rows)
        elif self._done >= self._total or time.monotonic() - self._printed_at >= PAUSE:
            self._line("")

    def _line(self, what: str) -> None:
        self._printed_at = time.monotonic()
        words = (self._name, what, f"{self._done} of {self._total}")
        print(" ".join(filter(None, words)), file=sys.stderr, flush=True)
