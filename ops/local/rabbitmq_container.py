"""Runs RabbitMQ in a container of Docker's image, where the machine has no RabbitMQ and can't install one."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from ops.errors import Problem
from ops.local import subprocesses
from ops.local.rabbitmq_ports import Ports

IMAGE = "rabbitmq:4-management"


def require_docker() -> None:
    """Raises Problem where no container can run. There is no RabbitMQ then, for a container is the last resort."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0
    ):
        raise Problem(
            "RabbitMQ is not installed, and this account can neither install it nor run a container.",
            "Install it (apt-get install rabbitmq-server, as root), or set AMQP_URL to a broker of yours.",
        )


@dataclass(frozen=True, slots=True)
class Container:
    """The broker of the state folder `root` as a container. Its data is in a volume that outlives it."""

    name: str
    root: Path
    user: str
    password: str = field(repr=False)

    def remove(self) -> None:
        """Remove a container that was left behind, and so free its ports."""
        subprocess.run(["docker", "rm", "--force", self.name], capture_output=True, check=False)

    def start(self, ports: Ports, *, log: Path, cwd: Path) -> "subprocess.Popen[bytes]":
        """Start it; the process is Docker's client."""
        docker = shutil.which("docker") or "docker"
        return subprocesses.spawn(
            [
                *(docker, "run", "--rm", "--name", self.name, "--hostname", "palomar"),
                *("--publish", f"127.0.0.1:{ports.amqp}:5672"),
                *("--publish", f"127.0.0.1:{ports.management}:15672"),
                *("--volume", f"{self.name}:/var/lib/rabbitmq"),
                *("--env", f"RABBITMQ_DEFAULT_USER={self.user}", "--env", "RABBITMQ_DEFAULT_PASS", IMAGE),
            ],
            root=self.root,
            env={**os.environ, "RABBITMQ_DEFAULT_PASS": self.password},
            log=log,
            cwd=cwd,
        )

    def kill(self) -> None:
        subprocess.run(["docker", "kill", self.name], capture_output=True, check=False)
