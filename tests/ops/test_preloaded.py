"""The tests' short cut to the palomar command does what the interpreter does; see tests/support/preloaded.py."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.preloaded import ROOT, Server

COMMANDS = {
    "help": (["--help"], ""),
    "standard input": (["parse", "twilio"], "MessageSid=SM1&From=%2B5215512345678&To=%2B14155238886&Body=ma%C3%B1ana"),
    "a usage error": (["nonsense"], ""),
    "a missing address": (["status"], ""),
    "a long output": (["topology", "--mermaid"], ""),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.mark.parametrize(("arguments", "given"), COMMANDS.values(), ids=COMMANDS)
def test_a_fork_says_what_the_interpreter_says(
    server: Server, tmp_path: Path, arguments: list[str], given: str
) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AMQP_", "DATABASE_"))}
    environ["PYTHONPATH"] = str(ROOT)
    forked = server.run(arguments, env=environ, cwd=str(tmp_path), given=given)
    fresh = subprocess.run(
        [sys.executable, "-m", "ops", *arguments],
        env=environ, cwd=tmp_path, input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (forked.returncode, forked.stdout, forked.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr)


def test_a_command_that_takes_too_long_is_killed(server: Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        url = f"postgresql://owner@127.0.0.1:{silent.getsockname()[1]}/palomar"
        environ = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
        with pytest.raises(subprocess.TimeoutExpired):
            server.run(["verify"], env=environ, cwd=str(tmp_path), seconds=1)
