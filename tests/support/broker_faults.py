"""Faults of the session's broker, each of which ends when its block does."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ops.local import subprocesses
from ops.local.stack import Stack

RABBITMQCTL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")


def node(stack: Stack) -> psutil.Process:
    """The broker's process. A `rabbitmqctl` that is under way has the same name, and is younger."""
    beams = [process for process in subprocesses.belonging_to(stack.root) if process.name() == "beam.smp"]
    return min(beams, key=psutil.Process.create_time)


@contextmanager
def paused(stack: Stack) -> Iterator[None]:
    """The broker's process stands still: connections stay open and nothing answers."""
    beam = node(stack)
    beam.send_signal(signal.SIGSTOP)
    try:
        while not _stands_still(beam):  # on a busy machine its threads go on for a moment
            time.sleep(0.005)
        yield
    finally:
        beam.send_signal(signal.SIGCONT)


def _stands_still(process: psutil.Process) -> bool:
    """Whether each of its threads is stopped: the third field of its line in /proc."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)


@contextmanager
def out_of_memory(stack: Stack) -> Iterator[None]:
    """The broker's memory alarm: it reads no connection that publishes."""
    _control(stack, "set_vm_memory_high_watermark", "0.00001")
    try:
        yield
    finally:
        _control(stack, "set_vm_memory_high_watermark", "absolute", "1GB")


def _control(stack: Stack, *command: str) -> None:
    variables = node(stack).environ()
    kept = ("HOME", "PATH", "LANG", "ERL_EPMD_ADDRESS", "ERL_EPMD_PORT", "RABBITMQ_NODENAME", "RABBITMQ_CONF_ENV_FILE")
    subprocess.run(
        [RABBITMQCTL, "--node", variables["RABBITMQ_NODENAME"], *command],
        env={**{name: variables[name] for name in kept if name in variables}, "PATH": os.defpath},
        check=True,
        capture_output=True,
        timeout=60,
    )
