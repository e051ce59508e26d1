"""Where the measuring happens: a broker and a database of the benchmark's own, and the processes that are measured.

All of it lives in `.palomar/bench`; a running `palomar up` is never touched. Processes are given every variable they
read, so that neither the caller's environment nor `.palomar/env` changes a figure.
"""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import psycopg
from psycopg import sql

from ops.demo import tenants
from ops.errors import Problem
from ops.local import subprocesses
from ops.local.postgres import OWNER
from ops.local.stack import Stack
from schema import migrate
from shared.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[2]
TEMPLATE = "bench_template"
EMPTY = "template0"
FIRST_PORT = 18300
READY_WITHIN = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Process:
    """One process under measurement. The ports are None where it serves nothing."""

    name: str
    child: subprocess.Popen[bytes]
    port: int | None
    health_port: int | None  # where it says whether it is ready; another one for ingress only
    log: Path
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def peak(self) -> int | None:
        """The most memory it ever had resident, in bytes; None where the system does not keep count (not Linux)."""
        try:
            lines = Path(f"/proc/{self.child.pid}/status").read_text().splitlines()
        except OSError:
            return None
        kib = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
        return None if kib is None else int(kib) * 1024


class Arena:
    """Made on a running stack, in the main thread. `stop` ends every process that is left."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.folder = stack.root / "run"
        self.folder.mkdir(exist_ok=True)
        self._keys = f"bench:{b64encode(secrets.token_bytes(32)).decode()}"
        self._processes: list[Process] = []
        self._vhosts: dict[str, str] = {}
        self._prepare()

    def _prepare(self) -> None:
        """A migrated database with the demo tenant, to clone; what an earlier run left goes."""
        with psycopg.connect(self.stack.postgres.admin_url, autocommit=True) as admin:
            for (left,) in admin.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench\\_%'").fetchall():
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(left)))
            admin.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(TEMPLATE), sql.Identifier(OWNER))
            )
        url = self.stack.postgres.url(OWNER, TEMPLATE)
        migrate.apply(url)
        asyncio.run(tenants.ensure(Settings(_env_file=None, **self._named({"database_url": url}))))

    def _named(self, values: Mapping[str, str]) -> dict[str, Any]:
        return {"secret_keys": self._keys, "state_dir": self.folder, **values}

    def database(self, name: str, *, template: str = TEMPLATE) -> str:
        """A fresh database `bench_NAME` in place of any of that name, migrated unless the template is EMPTY; its
        owner's URL."""
        full = f"bench_{name}"
        with psycopg.connect(self.stack.postgres.admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(full)))
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                    sql.Identifier(full), sql.Identifier(template), sql.Identifier(OWNER)
                )
            )
        return self.stack.postgres.url(OWNER, full)

    def vhost(self, name: str) -> str:
        """A fresh virtual host in place of the one this run had by that name; its URL."""
        if name in self._vhosts:
            self.stack.rabbitmq.delete_vhost(self._vhosts[name])
        self._vhosts[name] = f"bench-{name}-{uuid4().hex}"
        return self.stack.rabbitmq.add_vhost(self._vhosts[name])

    def settings(self, **values: str) -> Settings:
        """The configuration that processes with these variables have, for what the benchmark itself does."""
        return Settings(_env_file=None, **self._named(values))

    def spawn(self, name: str, command: list[str], env: Mapping[str, str], *, serves: bool = False) -> Process:
        """Start `python COMMAND…`. Where it `serves`, it finds a free port in PORT, and takes that for public."""
        taken = [port for process in self._processes for port in (process.port, process.health_port) if port]
        port = subprocesses.free_port(FIRST_PORT, taken) if serves else None
        health_port = subprocesses.free_port(FIRST_PORT, [*taken, port]) if port and "ingress" in command else port
        log = self.stack.root / "logs" / f"{name}.log"
        log.unlink(missing_ok=True)
        kept = {variable: value for variable, value in os.environ.items() if variable in ("PATH", "HOME", "TZ")}
        ours = {
            **kept,
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(CHECKOUT),
            "PALOMAR_SECRET_KEYS": self._keys,
            "PALOMAR_STATE_DIR": str(self.folder),
            "PALOMAR_LOG_LEVEL": "warning",
            "PALOMAR_SANDBOX_SMTP_PORT": "0",  # any free one: mails are none of the benchmark's
            **({} if port is None else {"PORT": str(port), "PALOMAR_PUBLIC_URL": f"http://127.0.0.1:{port}"}),
            **({} if health_port is None else {"PALOMAR_HEALTH_PORT": str(health_port)}),
            **({"PALOMAR_API_PORT": str(port), "PORT": str(health_port)} if command[-1] == "api" else {}),
        }
        variables = {**ours, **env}
        process = Process(name, self._start(command, variables, log), port, health_port, log, command, variables)
        self._processes.append(process)
        return process

    def again(self, process: Process) -> Process:
        """Start a process that has ended once more, with the same variables and ports."""
        self._processes.remove(process)
        started = replace(process, child=self._start(process.command, process.env, process.log))
        self._processes.append(started)
        return started

    def _start(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        return subprocesses.spawn([sys.executable, *command], root=self.stack.root, env=env, log=log, cwd=self.folder)

    async def ready(self, *processes: Process) -> None:
        """Wait until each says so at /readyz. Raises Problem."""
        deadline = time.monotonic() + READY_WITHIN
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            for process in processes:
                while not await _says_ready(session, process):
                    self.check(process)
                    if time.monotonic() > deadline:
                        raise Problem(f"{process.name} does not get ready.", f"Its log is {process.log}.")
                    await asyncio.sleep(0.05)

    def check(self, *processes: Process) -> None:
        """Raises Problem where one of them has ended: what was measured is worth nothing then."""
        for process in processes:
            if process.child.poll() is not None:
                code, last = process.child.returncode, subprocesses.last_lines(process.log)
                raise Problem(f"{process.name} ended with code {code}.\n{last}", f"Its log is {process.log}.")

    async def result(self, name: str, module: str, arguments: list[str], env: Mapping[str, str]) -> Any:
        """Run a program of tests/bench to its end; what it wrote into the file whose path `arguments` hold as FILE."""
        file = self.folder / f"{name}.json"
        file.unlink(missing_ok=True)
        command = ["-m", f"tests.bench.{module}", *(str(file) if part == "FILE" else part for part in arguments)]
        process = self.spawn(name, command, env)
        while process.child.poll() is None:  # noqa: ASYNC110 (a child of subprocess sets no asyncio.Event)
            await asyncio.sleep(0.1)
        self._processes.remove(process)
        if not file.exists():
            self.check(process)
            raise Problem(f"{name} measured nothing.", f"Its log is {process.log}.")
        return orjson.loads(file.read_bytes())

    def end(self, *processes: Process) -> None:
        """Stop these in order."""
        for process in processes:
            process.child.send_signal(signal.SIGTERM)
        for process in processes:
            subprocesses.await_end(process.child, 20.0)
            self._processes.remove(process)

    def stop(self) -> None:
        """Stop what is left."""
        self.end(*self._processes)


async def _says_ready(session: aiohttp.ClientSession, process: Process) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{process.health_port}/readyz") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
