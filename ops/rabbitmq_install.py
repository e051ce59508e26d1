"""Find an installed RabbitMQ, or install one: apt as root, brew, and else say what to do.

Debian's package starts a node on port 5672 and keeps it for every boot. We need the files only, so its services are
kept from starting and are switched off; a RabbitMQ that was installed before is left as it is.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from ops.errors import Problem

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_KEPT = Path("/usr/sbin/policy-rc.d.before-palomar")
POLICY_TEXT = "#!/bin/sh\n# Palomar, for the time of one apt-get: installed services do not start.\nexit 101\n"
INSTALLING = Path("/run/lock/palomar-install.lock")
SERVICES = ("rabbitmq-server.service", "epmd.service", "epmd.socket")

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
    if os.geteuid() == 0 and shutil.which("apt-get"):
        report("Installing rabbitmq-server with apt-get: once, about 20 seconds.")
        _apt_install()
    elif os.geteuid() != 0 and shutil.which("brew"):
        report("Installing rabbitmq with brew: once, a few minutes.")
        _run("brew", "install", "--quiet", "rabbitmq")
    return find_server()


def tidy() -> None:
    """Take back what an installation that was killed left in the system's folders."""
    if os.geteuid() != 0 or not POLICY.exists() or POLICY.read_text() != POLICY_TEXT:
        return
    with contextlib.suppress(BlockingIOError), INSTALLING.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held while anybody's installation goes on
        _restore_policy()


def _apt_install() -> None:
    # An index that cannot be refreshed (no network) may still know the package.
    subprocess.run(["apt-get", "-qq", "update"], capture_output=True, check=False)
    with INSTALLING.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _restore_policy()
        try:
            if POLICY.exists():
                POLICY.rename(POLICY_KEPT)
            POLICY.write_text(POLICY_TEXT)  # Debian asks it before a package starts a service; 101 means no
            POLICY.chmod(0o755)
            _run(
                *("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends"),
                "rabbitmq-server",
                keep_open=lock.fileno(),
            )
        finally:
            _restore_policy()
    if shutil.which("systemctl"):
        for service in SERVICES:
            subprocess.run(["systemctl", "disable", "--quiet", service], capture_output=True, check=False)


def _restore_policy() -> None:
    if POLICY.exists() and POLICY.read_text() == POLICY_TEXT:
        POLICY.unlink()
    if POLICY_KEPT.exists() and not POLICY.exists():
        POLICY_KEPT.rename(POLICY)


def _run(*command: str, keep_open: int | None = None) -> None:
    """Run an installer to its end: Ctrl-C waits for it, because a package half installed blocks the next one."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        start_new_session=True,
        pass_fds=() if keep_open is None else (keep_open,),
    ) as process:
        try:
            output, _ = process.communicate()
        except KeyboardInterrupt:
            process.communicate()
            raise
    if process.returncode != 0:
        raise Problem(
            f"`{' '.join(command)}` failed: {output.strip()[-500:]}",
            "Install RabbitMQ 3.10 or later yourself, or set AMQP_URL.",
        )
