"""Installs a program with the machine's package manager: apt as root, else brew.

Debian's packages start their services, at every boot too. We need the files only, so no service is started, and those
that were installed are switched off; what was there before is left as it is.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ops.errors import Problem

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_KEPT = Path("/usr/sbin/policy-rc.d.before-palomar")
POLICY_TEXT = "#!/bin/sh\n# Palomar, for the time of one apt-get: installed services do not start.\nexit 101\n"
INSTALLING = Path("/run/lock/palomar-install.lock")


def has_apt() -> bool:
    """Whether apt-get may install here."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def has_brew() -> bool:
    """Whether brew may install here; it refuses to work for root."""
    return os.geteuid() != 0 and shutil.which("brew") is not None


def apt_install(package: str, *, services: Sequence[str], remedy: str) -> None:
    """Install a package of Debian's or Ubuntu's without its services. Raises Problem with the remedy."""
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
                package,
                remedy=remedy,
                keep_open=lock.fileno(),
            )
        finally:
            _restore_policy()
    if shutil.which("systemctl"):
        for service in services:
            subprocess.run(["systemctl", "disable", "--quiet", service], capture_output=True, check=False)


def brew_install(package: str, *, remedy: str) -> None:
    """Install a package of brew's. Raises Problem with the remedy."""
    _run("brew", "install", "--quiet", package, remedy=remedy)


def tidy() -> None:
    """Take back what an installation that was killed left in the system's folders."""
    if os.geteuid() != 0 or not POLICY.exists() or POLICY.read_text() != POLICY_TEXT:
        return
    with contextlib.suppress(BlockingIOError), INSTALLING.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held while anybody's installation goes on
        _restore_policy()


def _restore_policy() -> None:
    if POLICY.exists() and POLICY.read_text() == POLICY_TEXT:
        POLICY.unlink()
    if POLICY_KEPT.exists() and not POLICY.exists():
        POLICY_KEPT.rename(POLICY)


def _run(*command: str, remedy: str, keep_open: int | None = None) -> None:
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
        raise Problem(f"`{' '.join(command)}` failed: {output.strip()[-500:]}", remedy)
