"""TCP ports for the servers that a test starts, and ports at which none listens."""

import os
from itertools import count
from secrets import randbelow
from typing import Final

from ops.errors import Problem
from ops.local import subprocesses

# Below those that the kernel gives to outgoing connections (32768 and up), above those of a stack (16000 to 25003).
FIRST: Final = 25100
PORTS: Final = 7600

# Several processes run tests at once. Each has every sixteenth port for itself, and walks through them from a place of
# its own, so that a port that a test was given, and has not bound yet or lets go for a while, stays that test's.
PROCESSES: Final = 16
_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % PROCESSES
_walk = count(randbelow(PORTS // PROCESSES))


def free_port() -> int:
    """A loopback port that is free now, and that no other call gives out soon."""
    for _ in range(PORTS // PROCESSES):
        port = FIRST + _process + next(_walk) * PROCESSES % PORTS
        if subprocesses.is_free(port):
            return port
    raise Problem(f"No free TCP port from {FIRST} to {FIRST + PORTS}.", "Close something that listens there.")
