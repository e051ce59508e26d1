"""Shows the warnings and errors of a process's log on a console, one short line each."""

import time
from collections.abc import Iterator
from pathlib import Path

import orjson

SHOWN = ("warning", "error", "critical")
HIDDEN_FIELDS = ("level", "event", "timestamp", "logger", "exception", "stack")
LINES_PER_SECOND = 5  # of one process; the rest is counted
LONGEST_LINE = 64 * 1024


class LogTail:
    """Follows one log file, from its end at the time of making."""

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path
        self._read = path.stat().st_size if path.exists() else 0  # bytes
        self._second = 0
        self._shown = 0
        self._left_out = 0

    def warnings(self) -> Iterator[str]:
        """The new lines of level warning or worse, shortened; of more than LINES_PER_SECOND it gives the number."""
        second = int(time.monotonic())
        if second != self._second:
            if self._left_out:
                yield f"{self._name}: {self._left_out} more in {self._path}"
            self._second, self._shown, self._left_out = second, 0, 0
        for raw in self._new_lines():
            line = shorten(raw)
            if line is None:
                continue
            if self._shown < LINES_PER_SECOND:
                self._shown += 1
                yield f"{self._name}: {line}"
            else:
                self._left_out += 1

    def _new_lines(self) -> Iterator[bytes]:
        if not self._path.exists() or self._path.stat().st_size == self._read:
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            while line := file.readline(LONGEST_LINE):
                if not line.endswith(b"\n") and len(line) < LONGEST_LINE:  # still being written
                    return
                self._read += len(line)
                yield line


def shorten(raw: bytes) -> str | None:
    """A JSON log line as `event key=value …`; None for what a console need not show."""
    try:
        entry = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(entry, dict) or str(entry.get("level")) not in SHOWN:
        return None
    fields = " ".join(f"{name}={value}" for name, value in entry.items() if name not in HIDDEN_FIELDS)
    return f"{entry['level']} {entry.get('event', '')} {fields}"[:200].rstrip()
