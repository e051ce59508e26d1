"""Prints for a person: tables that fit, readable times, and text from outside without control characters."""

import sys
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

PIPED_WIDTH = 160  # columns where the output is no terminal


def console() -> Console:
    """Standard output, without markup in what is printed."""
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def progress() -> Progress:
    """A bar on standard error, which leaves standard output to the result."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def printable(text: str) -> str:
    """Text from outside, with every character that could steer a terminal written as its escape."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def plain(text: str, style: str = "") -> Text:
    """The same for a cell of a table."""
    return Text(printable(text), style=style)


def when(at: datetime | None) -> str:
    """In this machine's time zone, to the second, with how long ago it was; `–` for None."""
    if at is None:
        return "–"
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S} ({ago((datetime.now(UTC) - at).total_seconds())})"


def ago(seconds: float) -> str:
    """`in the future`, `12 s ago`, `3 min ago`, `5 h ago`, `2 days ago`."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago" if seconds > -2 else "in the future"
