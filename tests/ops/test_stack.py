"""The local stack outlives none of its owners, and none of its owners' deaths hinders the next."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ops.errors import Problem
from ops.local import subprocesses
from ops.local.stack import Stack

CHECKOUT = Path(__file__).resolve().parents[2]
OWNER_THAT_HANGS = """
import sys, time
from pathlib import Path
from ops.local.stack import Stack
stack = Stack(Path(sys.argv[1]))
stack.start()
stack.rabbitmq.add_vhost("kept")
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A state folder of its own; whatever a failed test leaves running in it is ended."""
    root = CHECKOUT / ".palomar" / "test-lifecycle"
    yield root
    subprocesses.end(subprocesses.belonging_to(root), grace=20)


def test_an_owner_killed_with_9_hinders_nobody_and_stop_leaves_nothing(root: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER_THAT_HANGS, root], cwd=CHECKOUT, stdout=subprocess.PIPE)
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        with pytest.raises(Problem, match=f"in use by process {owner.pid}"):
            Stack(root).start()
        owner.kill()

    with Stack(root) as stack:
        with psycopg.connect(stack.database_url) as connection:
            found = connection.execute("SELECT current_user, usesuper FROM pg_user WHERE usename = current_user")
            assert found.fetchone() == ("palomar_owner", False)
        assert stack.rabbitmq.management.vhosts() == {"/", "kept"}

    assert subprocesses.belonging_to(root) == []


def test_broker_and_database_come_back_where_they_were_after_a_crash(stack: Stack, amqp_url: str) -> None:
    before = (stack.amqp_url, stack.database_url)

    stack.rabbitmq.kill()
    stack.postgres.stop("immediate")
    assert (stack.rabbitmq.running, stack.postgres.running) == (False, False)
    assert stack.revive() == ["RabbitMQ", "PostgreSQL"]

    assert (stack.amqp_url, stack.database_url) == before
    assert amqp_url.rpartition("/")[2] in stack.rabbitmq.management.vhosts()


def test_a_process_ends_with_its_owner_even_when_that_is_killed(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a child of its parent's death")
    script = f"""
import os, time
from pathlib import Path
from ops.local import subprocesses
here = Path({str(tmp_path)!r})
subprocesses.spawn(["sleep", "600"], root=here, env=dict(os.environ), log=here / "log", cwd=here)
print("up", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=CHECKOUT, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        assert [process.name() for process in subprocesses.belonging_to(tmp_path)] == ["sleep"]
        owner.kill()
    deadline = time.monotonic() + 5
    while subprocesses.belonging_to(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert subprocesses.belonging_to(tmp_path) == []
