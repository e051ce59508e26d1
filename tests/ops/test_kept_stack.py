"""What `palomar test --keep` leaves running: the next run finds it, and can't take it down."""

import fcntl
import os
from pathlib import Path

import psycopg
import pytest

from ops.errors import Problem
from ops.local import kept_stack, subprocesses


def test_a_kept_stack_is_found_again_and_only_its_owner_ends_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    assert not kept_stack.stop(tmp_path)
    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        kept_stack.ensure(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with (tmp_path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whoever started it has ended, and holds it no more
        owner = (tmp_path / "ready").read_text()
        kept_stack.ensure(tmp_path)
        assert (tmp_path / "ready").read_text() == owner
        stack = kept_stack.attached(tmp_path)
        stack.rabbitmq.add_vhost("kept")
        assert "kept" in stack.rabbitmq.management.vhosts()
        with psycopg.connect(stack.postgres.admin_url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        for order in (stack.rabbitmq.kill, stack.rabbitmq.start, stack.postgres.stop, stack.postgres.start):
            with pytest.raises(Problem, match="belongs to another process"):
                order()
    finally:
        assert kept_stack.stop(tmp_path)
    assert not kept_stack.stop(tmp_path)
    assert subprocesses.belonging_to(tmp_path) == []
