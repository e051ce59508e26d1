"""Tests run beside each other; while one that is marked `alone` runs, no other test of this checkout does.

Such a test fills the machine, or measures what it does in a time. One that is marked `heavy` starts all of Palomar's
processes but mostly waits for them, so others go on; a second heavy one does not. Waiting for a turn is not part of a
test's timeout.

Those that are alone come last. Among the others each would wait until all of them have ended, a heavy one after some
minutes, while no other begins.
"""

import fcntl
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / ".palomar"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    heavy = item.get_closest_marker("heavy") is not None
    with the_only_heavy() if heavy else nullcontext(), turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@contextmanager
def the_only_heavy() -> Iterator[None]:
    """Hold the heavy tests' lock, which is taken before any other: a test that waits for it holds nothing."""
    FOLDER.mkdir(mode=0o711, exist_ok=True)
    with (FOLDER / "tests.heavy").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def turn(*, alone: bool) -> Iterator[None]:
    """Hold the lock: with others, or alone. A holder that waits to be alone blocks all that come after it.

    The kernel gives both back when a process ends, however it ends.
    """
    FOLDER.mkdir(mode=0o711, exist_ok=True)
    how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with (FOLDER / "tests.door").open("w") as door, (FOLDER / "tests.room").open("w") as room:
        fcntl.flock(door, how)
        fcntl.flock(room, how)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
