"""A RabbitMQ of our own: a private node with its ports, data, cookie and name server, or a container.

The node shares nothing with a RabbitMQ of the system: not the port, not the configuration in /etc/rabbitmq, not even
Erlang's name server (epmd), so that stopping ours disturbs nobody and stopping theirs does not disturb us.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from ops.errors import Problem
from ops.local import packages, rabbitmq_install, subprocesses

USER = "palomar"
IMAGE = "rabbitmq:4-management"
FAMILIAR = 5672
READY_TIMEOUT = 90.0  # seconds; 8 are usual, a first start on a loaded laptop takes longer
STOP_GRACE = 20.0

# Idle schedulers sleep instead of spinning: a laptop's fan stays off. The node's port for other nodes is closed to
# the network.
ERLANG_ARGUMENTS = (
    "-noinput -start_epmd false -kernel inet_dist_use_interface {127,0,0,1} "
    "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
)

Report = Callable[[str], None]


@dataclass(frozen=True)
class Ports:
    """Loopback TCP ports of one node: AMQP, the management UI, Erlang's distribution, Erlang's name server."""

    amqp: int
    management: int
    distribution: int
    names: int


class RabbitMQ:
    """One broker below the state folder `root`. Not safe for use from several threads.

    `familiar` prefers the ports everybody knows (5672, 15672); otherwise they are derived from the folder's path, so
    that several stacks that start at once do not race for the same ones.
    """

    def __init__(self, root: Path, report: Report, *, familiar: bool = False) -> None:
        self._root = root
        self._folder = root / "rabbitmq"
        self._log = root / "logs" / "rabbitmq.log"
        self._report = report
        self._familiar = familiar
        self._ports: Ports | None = None
        self._node: subprocess.Popen[bytes] | None = None
        self._names: subprocess.Popen[bytes] | None = None
        self._script: Path | None = None
        self._young: set[str] = set()  # virtual hosts made since the node started
        self._attached = False  # another process runs it

    @property
    def user(self) -> str:
        return USER

    @property
    def password(self) -> str:
        return (self._folder / "password").read_text()

    @property
    def ports(self) -> Ports:
        """The node's ports; chosen at the first start and kept from then on, over `kill` and `start` too."""
        if self._ports is None:
            raise RuntimeError("the broker was not started")
        return self._ports

    @property
    def running(self) -> bool:
        return self._node is not None and self._node.poll() is None

    @property
    def amqp_url(self) -> str:
        return self.vhost_url("/")

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.management}"

    def vhost_url(self, vhost: str) -> str:
        return f"amqp://{USER}:{self.password}@127.0.0.1:{self.ports.amqp}/{quote(vhost, safe='')}"

    # -- life ------------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Use the broker that another process runs in this folder. Raises OSError or ValueError where none did."""
        self._ports = Ports(**json.loads((self._folder / "ports.json").read_text()))
        self._attached = True

    def _own(self) -> None:
        """Raises Problem where another process runs the broker."""
        if self._attached:
            raise Problem("This broker belongs to another process.", "Run what restarts it without --keep.")

    def start(self) -> None:
        """Run the broker until it serves AMQP and the management API. Idempotent."""
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Start without waiting, so that something else can start meanwhile; `await_ready` follows."""
        self._own()
        if self.running:
            return
        self._young = set()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self._folder / "password").exists():
            _write_private(self._folder / "password", secrets.token_hex(16))
        packages.tidy()
        if self._script is None:
            self._script = rabbitmq_install.find_server() or rabbitmq_install.install(self._report)
        if self._script is None and not _docker_works():
            raise Problem(
                "RabbitMQ is not installed, and this account can neither install it nor run a container.",
                "Install it (apt-get install rabbitmq-server, as root), or set AMQP_URL to a broker of yours.",
            )
        if self._script is None:
            self._launch_container()
        else:
            self._launch_node(self._script)

    def await_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._answers():
            if self._node is None or self._node.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Problem(
                    f"RabbitMQ does not come up.\n{subprocesses.last_lines(self._log)}", f"Its log is {self._log}."
                )
            time.sleep(0.1)
        (self._folder / "whole").touch()

    def stop(self) -> None:
        """In order: the node syncs its queues and leaves; then its name server."""
        self._own()
        if self._node is not None:
            subprocesses.stop(self._node, signal.SIGTERM, STOP_GRACE)
            self._node = None
        self._clear()

    def kill(self) -> None:
        """SIGKILL, as a power cut would: queues must survive it. `start` brings it back on the same ports."""
        self._own()
        if self._node is None:
            return
        if self._script is None:
            subprocess.run(["docker", "kill", self._container], capture_output=True, check=False)
        self._node.kill()
        self._node.wait()
        self._node = None
        self._clear()

    def forget(self) -> None:
        """Remove all that the stopped node kept: virtual hosts, queues, messages."""
        if self.running:
            raise RuntimeError("stop the broker first")
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    # -- management ------------------------------------------------------------------------------------------------

    def add_vhost(self, name: str) -> str:
        """A virtual host of that name, ours to use; returns its AMQP URL. Idempotent."""
        self._manage("PUT", f"/api/vhosts/{quote(name, safe='')}", {})
        self._manage(
            "PUT",
            f"/api/permissions/{quote(name, safe='')}/{USER}",
            {"configure": ".*", "write": ".*", "read": ".*"},
        )
        self._young.add(name)
        return self.vhost_url(name)

    def delete_vhost(self, name: str) -> None:
        """Remove a virtual host with all its queues, closing its connections; one that outlived a start stays.

        On 3.10.8 a queue deleted while its dead-lettering worker comes up again after a start takes that worker's
        supervisor with it, and from then on every publish to any such queue of the node is refused (seen).
        """
        if name not in self._young:
            return
        self._manage("DELETE", f"/api/vhosts/{quote(name, safe='')}", None, absent=http.client.NOT_FOUND)

    def is_young(self, name: str) -> bool:
        """Whether the node has made this virtual host since it started."""
        return name in self._young

    def definitions(self, vhost: str) -> dict[str, Any]:
        """Its queues, exchanges, bindings, policies and parameters, as the management API shows them."""
        _, answer = self._request("GET", f"/api/definitions/{quote(vhost, safe='')}")
        shown: dict[str, Any] = json.loads(answer)
        return shown

    def vhosts(self) -> set[str]:
        """The names of the virtual hosts there are."""
        _, answer = self._request("GET", "/api/vhosts?columns=name")
        return {vhost["name"] for vhost in json.loads(answer)}

    def _manage(self, method: str, path: str, body: object, absent: int | None = None) -> None:
        status, answer = self._request(method, path, body)
        if status >= 300 and status != absent:
            raise Problem(f"RabbitMQ answered {status} to {method} {path}: {answer}", f"Its log is {self._log}.")

    def _request(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.management, timeout=20)
        credentials = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        with contextlib.closing(connection):
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            socket.create_connection(("127.0.0.1", self.ports.amqp), timeout=2).close()
            return self._request("GET", "/api/whoami")[0] == http.client.OK
        return False

    # -- a private node --------------------------------------------------------------------------------------------

    def _launch_node(self, script: Path) -> None:
        self._clear()
        if not (self._folder / "whole").exists():
            # A first start that was killed may have left a node without its user; nothing was ever kept in it.
            shutil.rmtree(self._folder / "data", ignore_errors=True)
        subprocesses.rotate(self._log)
        self._choose_ports()
        environment = self._environment()
        self._write_configuration()
        self._names = subprocesses.spawn(
            [rabbitmq_install.find_epmd(), "-address", "127.0.0.1", "-port", str(self.ports.names)],
            root=self._root,
            env=environment,
            log=self._log,
            cwd=self._folder,
        )
        self._node = subprocesses.spawn([script], root=self._root, env=environment, log=self._log, cwd=self._folder)

    def _choose_ports(self) -> None:
        """Those of the last start while they are free, else the next free ones; kept in ports.json."""
        kept = self._folder / "ports.json"
        if self._ports is None:
            with contextlib.suppress(OSError, ValueError, TypeError):
                remembered = Ports(**json.loads(kept.read_text()))
                if all(subprocesses.is_free(port) for port in asdict(remembered).values()):
                    self._ports = remembered
        if self._ports is None:
            offset = int(self._digest, 16) % 9000
            first = FAMILIAR if self._familiar else 16000 + offset
            taken = self._kept_beside()
            amqp = subprocesses.free_port(first, taken)
            taken.add(amqp)
            management = subprocesses.free_port(10000 + FAMILIAR if self._familiar else first + 1, taken)
            taken.add(management)
            distribution = subprocesses.free_port(20000 + FAMILIAR if self._familiar else first + 2, taken)
            taken.add(distribution)
            names = subprocesses.free_port(16000 + offset + 3, taken)
            self._ports = Ports(amqp, management, distribution, names)
        _write_private(kept, json.dumps(asdict(self._ports)))

    def _kept_beside(self) -> set[int]:
        """Ports of the stacks in the folders beside ours: they may start at this moment, and then look free."""
        ports: set[int] = set()
        for kept in self._root.parent.glob("*/rabbitmq/ports.json"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                ports.update(asdict(Ports(**json.loads(kept.read_text()))).values())
        return ports

    def _environment(self) -> dict[str, str]:
        """What the node reads: only ours, nothing from /etc/rabbitmq nor from the caller's environment."""
        folder = self._folder
        (folder / "home").mkdir(mode=0o700, exist_ok=True)  # Erlang keeps its cookie there, mode 0400
        places = (rabbitmq_install.find_epmd().parent, "/opt/homebrew/bin", "/usr/local/bin", os.defpath, "/usr/sbin")
        return {
            "PATH": ":".join(map(str, places)),
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.ports.names),
            "RABBITMQ_NODENAME": f"palomar-{self._digest}@localhost",
            "RABBITMQ_NODE_PORT": str(self.ports.amqp),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self.ports.distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._log.parent),
            "RABBITMQ_LOGS": "-",  # to standard output, which goes to our log file
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            # The script then becomes the node (exec) instead of waiting beside it: our child is the real process.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_ARGUMENTS,
        }

    def _write_configuration(self) -> None:
        _write_private(self._folder / "enabled_plugins", "[rabbitmq_management].\n")
        _write_private(self._folder / "rabbitmq-env.conf", "")
        _write_private(self._folder / "advanced.config", "[].\n")
        lines = {
            "listeners.tcp.1": f"127.0.0.1:{self.ports.amqp}",
            "management.tcp.ip": "127.0.0.1",
            "management.tcp.port": self.ports.management,
            "default_user": USER,
            "default_pass": self.password,
            "vm_memory_high_watermark.absolute": "1GB",
            "disk_free_limit.absolute": "200MB",
            "log.console.level": "info",
        }
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        _write_private(self._folder / "rabbitmq.conf", text)

    def _clear(self) -> None:
        """End what is left of the node: its name server, its helpers, and all that a killed owner left behind."""
        if self._names is not None:
            subprocesses.stop(self._names, signal.SIGTERM, 5.0)
            self._names = None
        subprocesses.end(_beside(self._root, str(self._folder)), STOP_GRACE)

    # -- a container -----------------------------------------------------------------------------------------------

    @property
    def _container(self) -> str:
        return f"palomar-{self._digest}"

    def _launch_container(self) -> None:
        """The same broker from Docker's image; its data in a volume that outlives the container."""
        subprocess.run(["docker", "rm", "--force", self._container], capture_output=True, check=False)
        self._choose_ports()
        self._report(f"RabbitMQ runs in the container {self._container}.")
        docker = shutil.which("docker") or "docker"
        self._node = subprocesses.spawn(
            [
                *(docker, "run", "--rm", "--name", self._container, "--hostname", "palomar"),
                *("--publish", f"127.0.0.1:{self.ports.amqp}:5672"),
                *("--publish", f"127.0.0.1:{self.ports.management}:15672"),
                *("--volume", f"{self._container}:/var/lib/rabbitmq"),
                *("--env", f"RABBITMQ_DEFAULT_USER={USER}", "--env", "RABBITMQ_DEFAULT_PASS", IMAGE),
            ],
            root=self._root,
            env={**os.environ, "RABBITMQ_DEFAULT_PASS": self.password},
            log=self._log,
            cwd=self._folder,
        )

    @property
    def _digest(self) -> str:
        return hashlib.sha256(os.fsencode(self._root)).hexdigest()[:10]


def _beside(root: Path, folder: str) -> list[psutil.Process]:
    """Of the processes that belong to `root`, those that run a broker from `folder`."""
    found = []
    for process in subprocesses.belonging_to(root):
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("RABBITMQ_MNESIA_BASE", "").startswith(folder):
                found.append(process)
    return found


def _docker_works() -> bool:
    return (
        shutil.which("docker") is not None
        and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    )


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, and for this user's eyes."""
    partial = path.with_name(path.name + ".partial")
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(path)
