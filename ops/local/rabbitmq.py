"""A RabbitMQ of our own: a private node with its ports, data, cookie and name server, or a container.

The node shares nothing with a RabbitMQ of the system: not the port, not the configuration in /etc/rabbitmq, not even
Erlang's name server (epmd), so that stopping ours does not affect theirs, nor theirs ours.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

from ops.errors import Problem
from ops.local import packages, rabbitmq_install, rabbitmq_ports, subprocesses
from ops.local.rabbitmq_container import Container, require_docker
from ops.local.rabbitmq_management import Management
from ops.local.rabbitmq_ports import Ports

USER = "palomar"
READY_TIMEOUT = 90.0  # seconds; 8 are usual, a first start on a loaded laptop takes longer
STOP_GRACE = 20.0

# Idle schedulers sleep instead of spinning: a laptop's fan stays off. The node's port for other nodes is closed to
# the network.
ERLANG_ARGUMENTS = (
    "-noinput -start_epmd false -kernel inet_dist_use_interface {127,0,0,1} "
    "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
)

Report = Callable[[str], None]


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
        """The node's ports; chosen at the first start and the same from then on, over `kill` and `start` too."""
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
        self._ports = rabbitmq_ports.remembered(self._root)
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
        if self._script is None:
            require_docker()
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
            self._container.kill()
        self._node.kill()
        self._node.wait()
        self._node = None
        self._clear()

    def forget(self) -> None:
        """Remove all data of the stopped node: virtual hosts, queues, messages."""
        if self.running:
            raise RuntimeError("stop the broker first")
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    # -- management ------------------------------------------------------------------------------------------------

    @property
    def management(self) -> Management:
        return Management(self.ports.management, USER, self.password, self._log)

    def add_vhost(self, name: str) -> str:
        """A virtual host of that name, ours to use; returns its AMQP URL. Idempotent."""
        self.management.add_vhost(name)
        self._young.add(name)
        return self.vhost_url(name)

    def delete_vhost(self, name: str) -> None:
        """Remove a virtual host with all its queues, closing its connections; one that outlived a start stays.

        On 3.10.8 a queue deleted while its dead-lettering worker comes up again after a start takes that worker's
        supervisor with it, and from then on every publish to any such queue of the node is refused (seen).
        """
        if name in self._young:
            self.management.delete_vhost(name)

    def is_young(self, name: str) -> bool:
        """Whether the node has made this virtual host since it started."""
        return name in self._young

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.ports.amqp), timeout=2).close()
            return self.management.serves()
        return False

    # -- a private node --------------------------------------------------------------------------------------------

    def _launch_node(self, script: Path) -> None:
        self._clear()
        if not (self._folder / "whole").exists():
            # A first start that was killed may have left a node without its user; no data was ever stored in it.
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
        """At the first start. They are remembered over the next ones, of other processes too."""
        if self._ports is None:
            self._ports = rabbitmq_ports.choose(self._root, self._digest, familiar=self._familiar)
        _write_private(self._root / rabbitmq_ports.REMEMBERED, json.dumps(asdict(self._ports)))

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
        ours = subprocesses.with_variable(self._root, "RABBITMQ_MNESIA_BASE", str(self._folder))
        subprocesses.end(ours, STOP_GRACE)

    # -- a container -----------------------------------------------------------------------------------------------

    @property
    def _container(self) -> Container:
        return Container(f"palomar-{self._digest}", self._root, USER, self.password)

    def _launch_container(self) -> None:
        container = self._container
        container.remove()
        self._choose_ports()
        self._report(f"RabbitMQ runs in the container {container.name}.")
        self._node = container.start(self.ports, log=self._log, cwd=self._folder)

    @property
    def _digest(self) -> str:
        return hashlib.sha256(os.fsencode(self._root)).hexdigest()[:10]


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, and for this user's eyes."""
    partial = path.with_name(path.name + ".partial")
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(path)
