"""The local stack: a broker and a database below one state folder, for `up`, for the tests and for the benchmark."""

import fcntl
import os
import sys
from pathlib import Path
from typing import Self, TextIO

from ops.errors import Problem
from ops.local import subprocesses
from ops.local.postgres import Postgres
from ops.local.rabbitmq import RabbitMQ

SERVERS = ("postgres", "beam.smp", "epmd")


def tell(line: str) -> None:
    """The default way to report: a line on standard error."""
    print(line, file=sys.stderr, flush=True)


class Stack:
    """RabbitMQ and PostgreSQL of our own; `start` and `stop`, or a `with` block.

    Start it from the main thread (see subprocesses.spawn). One owner at a time holds a state folder; what an owner that
    was killed left running is ended at the next start. After `stop` nothing of ours runs.
    """

    def __init__(self, root: Path, *, familiar_ports: bool = False, broker: bool = True, database: bool = True) -> None:
        """`broker` and `database` say which of the two are wanted; `familiar_ports` prefers 5672 and 15672."""
        self.root = root.resolve()
        self._broker = broker
        self._database = database
        self.rabbitmq = RabbitMQ(self.root, tell, familiar=familiar_ports)
        self.postgres = Postgres(self.root, tell)
        self._lock: TextIO | None = None

    @property
    def amqp_url(self) -> str:
        return self.rabbitmq.amqp_url

    @property
    def management_url(self) -> str:
        """RabbitMQ's UI and HTTP API; the user is `rabbitmq.user` with `rabbitmq.password`."""
        return self.rabbitmq.management_url

    @property
    def database_url(self) -> str:
        """The database `palomar` as its owner, which is no superuser."""
        return self.postgres.database_url

    def start(self) -> None:
        """Raises Problem when the folder is in use, or when either does not come up."""
        if not self.claim():
            raise Problem(f"The stack in {self.root} is in use by process {self._owner()}.", "Stop that one first.")
        try:
            self._end_leftovers()
            self.revive()
        except BaseException:
            self.stop()
            raise

    def attach(self) -> None:
        """Use what another process runs in this folder; neither is ours to stop or to start."""
        self.rabbitmq.attach()
        self.postgres.attach()

    def revive(self) -> list[str]:
        """Start what does not run, and return once it answers; names what was started."""
        broker_down = self._broker and not self.rabbitmq.running
        database_down = self._database and not self.postgres.running
        if broker_down:
            self.rabbitmq.launch()  # takes longest; the database starts meanwhile
        if database_down:
            self.postgres.start()
        if broker_down:
            self.rabbitmq.await_ready()
        return ["RabbitMQ"] * broker_down + ["PostgreSQL"] * database_down

    def stop(self) -> None:
        """Ends both and lets go of the folder. Idempotent."""
        try:
            self.rabbitmq.stop()
        finally:
            self.postgres.stop()
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def claim(self) -> bool:
        """Take the state folder for this process; False when another one has it. `start` does it by itself."""
        if self._lock is not None:
            return True
        # Others may pass through (PostgreSQL's own account must) and may not list its files.
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        (self.root / "logs").mkdir(mode=0o700, exist_ok=True)
        lock = (self.root / "stack.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        return True

    def _end_leftovers(self) -> None:
        """End what a killed owner left: the processes that use broker and database; these end their own at start."""
        users = [process for process in subprocesses.belonging_to(self.root) if process.name() not in SERVERS]
        subprocesses.end(users, 20.0)

    def _owner(self) -> str:
        return (self.root / "stack.lock").read_text().strip()
