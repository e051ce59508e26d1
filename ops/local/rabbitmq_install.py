"""Finds an installed RabbitMQ, or installs one: with apt as root, with brew, else it says what to do."""

import shutil
from collections.abc import Callable
from pathlib import Path

from ops.errors import Problem
from ops.local import packages

SERVICES = ("rabbitmq-server.service", "epmd.service", "epmd.socket")
REMEDY = "Install RabbitMQ 3.10 or later yourself, or set AMQP_URL."

# Debian and Ubuntu, then brew on Apple silicon, Intel and Linux. Not the `rabbitmq-server` on PATH: Debian's is a
# wrapper that insists on the user `rabbitmq` and its system-wide folders.
SCRIPTS = (
    Path("/usr/lib/rabbitmq/bin/rabbitmq-server"),
    Path("/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server"),
    Path("/usr/local/opt/rabbitmq/sbin/rabbitmq-server"),
    Path("/home/linuxbrew/.linuxbrew/opt/rabbitmq/sbin/rabbitmq-server"),
)
EPMD_PLACES = (
    (Path("/usr/lib/erlang"), "erts-*/bin/epmd"),
    (Path("/opt/homebrew/opt/erlang/lib/erlang"), "erts-*/bin/epmd"),
    (Path("/usr/local/opt/erlang/lib/erlang"), "erts-*/bin/epmd"),
    (Path("/home/linuxbrew/.linuxbrew/opt/erlang/lib/erlang"), "erts-*/bin/epmd"),
)


def find_server() -> Path | None:
    """The script that runs a node in the foreground under the caller's own account."""
    return next((script for script in SCRIPTS if script.exists()), None)


def find_epmd() -> Path:
    """Erlang's name server, which every node needs."""
    found = shutil.which("epmd")
    if found:
        return Path(found)
    for place, pattern in EPMD_PLACES:
        for path in sorted(place.glob(pattern), reverse=True):
            return path
    raise Problem("Erlang's epmd is not where RabbitMQ is installed.", "Install RabbitMQ again, or set AMQP_URL.")


def install(report: Callable[[str], None]) -> Path | None:
    """Install RabbitMQ with the machine's package manager where we may; None where we may not."""
    if packages.has_apt():
        report("Installing rabbitmq-server with apt-get: once, about 20 seconds.")
        packages.apt_install("rabbitmq-server", services=SERVICES, remedy=REMEDY)
    elif packages.has_brew():
        report("Installing rabbitmq with brew: once, a few minutes.")
        packages.brew_install("rabbitmq", remedy=REMEDY)
    return find_server()
