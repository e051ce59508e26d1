"""What the processes of a side and its servers use: CPU time by part, and memory."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import psutil

from ops.local import subprocesses
from ops.local.stack import Stack
from tests.bench.arena import Process

BROKER: Final = "RabbitMQ"
DATABASE: Final = "PostgreSQL"
_BROKER_NAMES: Final = ("beam.smp", "epmd", "erl_child_setup", "inet_gethost")


def cpu(stack: Stack, processes: Iterable[Process]) -> dict[str, float]:
    """CPU seconds so far, of each of these processes, of the stack's broker and of its database.

    Children that have ended count with their parents, so that a difference of two calls misses none.
    """
    used: dict[str, float] = defaultdict(float)
    for process in processes:
        used[process.name] += _seconds(psutil.Process(process.child.pid))
    for found in subprocesses.belonging_to(stack.root):
        with suppress(psutil.NoSuchProcess):
            if found.name().startswith(_BROKER_NAMES):
                used[BROKER] += _seconds(found)
    server = psutil.Process(stack.postgres.pid)
    for found in (server, *server.children()):
        with suppress(psutil.NoSuchProcess):
            used[DATABASE] += _seconds(found)
    return used


def _seconds(process: psutil.Process) -> float:
    """Of the process itself, and of its children that have ended."""
    return sum(process.cpu_times()[:4])


def memory(processes: Iterable[Process]) -> int:
    """Bytes that these processes take from the machine: PSS, in which what several share counts once."""
    return sum(psutil.Process(process.child.pid).memory_full_info().pss for process in processes)
