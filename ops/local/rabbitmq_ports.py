"""Chooses the ports of a RabbitMQ of our own: those of its last start while they are free, else the next free ones."""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ops.local import subprocesses

FAMILIAR = 5672
REMEMBERED = Path("rabbitmq/ports.json")  # below the state folder


@dataclass(frozen=True)
class Ports:
    """Loopback TCP ports of one node: AMQP, the management UI, Erlang's distribution, Erlang's name server."""

    amqp: int
    management: int
    distribution: int
    names: int


def remembered(root: Path) -> Ports:
    """The ports of the last start in the state folder `root`. Raises OSError, ValueError or TypeError where there are
    none."""
    return Ports(**json.loads((root / REMEMBERED).read_text()))


def choose(root: Path, digest: str, *, familiar: bool) -> Ports:
    """Ports for the broker of the state folder `root`, whose digest tells it from others.

    `familiar` prefers the ports everybody knows (5672, 15672).
    """
    with contextlib.suppress(OSError, ValueError, TypeError):
        last = remembered(root)
        if all(subprocesses.is_free(port) for port in asdict(last).values()):
            return last
    offset = int(digest, 16) % 9000
    first = FAMILIAR if familiar else 16000 + offset
    taken = _of_folders_beside(root)
    amqp = subprocesses.free_port(first, taken)
    taken.add(amqp)
    management = subprocesses.free_port(10000 + FAMILIAR if familiar else first + 1, taken)
    taken.add(management)
    distribution = subprocesses.free_port(20000 + FAMILIAR if familiar else first + 2, taken)
    taken.add(distribution)
    names = subprocesses.free_port(16000 + offset + 3, taken)
    return Ports(amqp, management, distribution, names)


def _of_folders_beside(root: Path) -> set[int]:
    """Ports of the stacks in the folders beside ours: they may start at this moment, and then look free."""
    ports: set[int] = set()
    for file in root.parent.glob(f"*/{REMEMBERED}"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            ports.update(asdict(remembered(file.parents[1])).values())
    return ports
