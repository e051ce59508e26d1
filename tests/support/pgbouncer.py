"""Debian's PgBouncer before a test's database."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import psycopg

from ops.local.postgres import OWNER
from ops.local.postgres_home import SYSTEM_USER
from tests.support import debian

PORT = 6432
CONFIGURATION = """
[databases]
* = host={postgres}
[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {servers}
server_reset_query = DISCARD ALL
ignore_startup_parameters = {ignored}
logfile = {folder}/log
"""


@contextmanager
def pooled(
    database_url: str, mode: Literal["session", "transaction"], *, servers: int = 2, ignored: str = ""
) -> Iterator[str]:
    """The same database through PgBouncer; `servers` is how many connections it has for all who come."""
    program = debian.pgbouncer()
    address = urlsplit(database_url)
    folder = Path(tempfile.mkdtemp(prefix="palomar-pgbouncer-"))
    (folder / "users").write_text(f'"{OWNER}" ""\n')
    configuration = folder / "pgbouncer.ini"
    (socket,) = parse_qs(address.query)["host"]
    configuration.write_text(
        CONFIGURATION.format(postgres=socket, port=PORT, folder=folder, mode=mode, servers=servers, ignored=ignored)
    )
    user = SYSTEM_USER if os.geteuid() == 0 else None  # as PostgreSQL's own account: PgBouncer does not run as root
    if user is not None:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user, user)
    process = subprocess.Popen(
        [program, "--quiet", configuration], user=user, group=user, extra_groups=() if user else None
    )
    try:
        url = address._replace(query=f"host={folder}&port={PORT}").geturl()
        _await(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def _await(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
        time.sleep(0.05)
