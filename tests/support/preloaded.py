"""Runs `python -m ops …` in a fork of a process that has its modules already.

Most of what a short command costs is the import of its libraries: about a second of the processor. The tests run some
hundreds of commands. Here a server imports them once; each command is a process of its own, forked from it, with its
own environment, folder and standard streams. `tests/ops/test_preloaded.py` holds this to what the interpreter does.

`Server.run` is the caller's side. The other side is this module, run as a program on one end of a socket pair.
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ROOT / "ops" / "commands"
LONGEST_REQUEST = 1 << 20  # bytes: arguments and environment
STREAMS = 3  # standard input, output, error


class Server:
    """A process that has the palomar command's modules, and forks for each command. Safe for several threads."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests = ours
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_REQUEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())], cwd=ROOT, pass_fds=(theirs.fileno(),)
            )

    def run(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: str, given: str = "", seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run(…, text=True, capture_output=True)`. Raises TimeoutExpired after so many seconds."""
        with contextlib.ExitStack() as files:
            streams = [files.enter_context(tempfile.TemporaryFile()) for _ in range(STREAMS)]
            streams[0].write(given.encode())
            streams[0].seek(0)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            files.enter_context(ours)
            with theirs:
                request = json.dumps({"arguments": list(arguments), "env": dict(env), "cwd": cwd}).encode()
                handles = [theirs.fileno(), *(stream.fileno() for stream in streams)]
                socket.send_fds(self._requests, [request], handles)
            ours.settimeout(seconds)
            pid = int(ours.recv(64))
            try:
                status = int(ours.recv(64))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(arguments), seconds) from None
            out, err = (_read(stream.fileno()) for stream in streams[1:])
            return subprocess.CompletedProcess(list(arguments), os.waitstatus_to_exitcode(status), out, err)

    def close(self) -> None:
        self._requests.close()
        self._process.wait(10)


def _read(handle: int) -> str:
    return os.pread(handle, os.fstat(handle).st_size, 0).decode()


# -- the server -----------------------------------------------------------------------------------------------------


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request, and report how each fork ended. Returns in a fork, with its request, and with None at the
    end: once the caller has closed its side."""
    running: dict[int, socket.socket] = {}
    woken, wakes = socket.socketpair()
    for end in (woken, wakes):
        end.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which then close their end
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is woken:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(1024)
                    _report_ended(running)
                    continue
                request, handles, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, 1 + STREAMS)
                if not request:
                    return None
                reply = socket.socket(fileno=handles[0])
                if (pid := os.fork()) == 0:
                    for left in (requests, woken, wakes, reply, *running.values()):
                        left.close()
                    for stream, handle in enumerate(handles[1:]):
                        os.dup2(handle, stream)
                        os.close(handle)
                    read: dict[str, Any] = json.loads(request)
                    return read
                for handle in handles[1:]:
                    os.close(handle)
                reply.send(str(pid).encode())
                running[pid] = reply


def _report_ended(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as reply, contextlib.suppress(OSError):  # a caller that waits no more
            reply.send(str(status).encode())


def become(request: dict[str, Any]) -> None:
    """Make this fork what `python -m ops ARGUMENTS` is when its first line runs."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the other two write to the new files as they are
    sys.argv = [str(ROOT / "ops" / "__main__.py"), *request["arguments"]]
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])


def _main() -> None:
    for command in sorted(COMMANDS.glob("[!_]*.py")):
        importlib.import_module(f"ops.commands.{command.stem}")
    main = importlib.import_module("ops.cli").main
    gc.collect()
    gc.freeze()  # the forks share these pages
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        request = serve(requests)
    if request is not None:
        become(request)
        main()


if __name__ == "__main__":
    _main()
