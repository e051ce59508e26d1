"""`palomar up`: from a bare checkout to a running system in the foreground, and all of it gone again at Ctrl-C."""

import asyncio
import contextlib
import fcntl
import http.client
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import orjson

from ops import demo_key, say
from ops.demo import tenants
from ops.errors import Problem
from ops.local import environment, external_services, subprocesses
from ops.local.stack import Stack
from ops.local.supervisor import Child, Supervisor, read_procfile
from ops.sandbox.openai import API_KEY
from schema import migrate
from shared.process import log
from shared.settings import API_PORT, RECEIVE_HEALTH_PORT, RECEIVE_PORT, Settings, load

CHECKOUT = Path(__file__).resolve().parents[2]
STATE = CHECKOUT / ".palomar"
PORTS = {"receive": RECEIVE_PORT, "all": RECEIVE_PORT, "sandbox": 4010}  # preferred; a taken one is stepped around
SMTP_PORT = 4025  # the sandbox's second one, where it takes mails
OTHER_PORTS = 9101  # and up: health and metrics of the workers
# Whose health and metrics have a port of their own: the line of each Procfile that receives webhooks.
PUBLIC = {"Procfile": "receive", "Procfile.small": "all"}
READY_TIMEOUT = 60.0  # seconds
TICK = 0.2


def up(procfile: str = "Procfile") -> None:
    """Run until Ctrl-C, SIGTERM or a closed terminal. Raises Problem when a step fails; stops what it started."""
    with _only_one(STATE) as lock, _signals(STATE) as stopping:
        system = System(procfile)
        try:
            system.start()
            lock.write_text("\n".join([str(os.getpid()), *system.addresses(), ""]))
            system.watch()
        except KeyboardInterrupt:
            _say("Stopping; Ctrl-C again kills.")
        finally:
            stopping.set()
            system.stop()
        _say("Stopped.")


class System:
    """The stack and the processes on it."""

    def __init__(self, procfile: str) -> None:
        self._procfile = procfile
        self._public = PUBLIC[procfile]
        self._own_broker = not os.environ.get("AMQP_URL")
        self._own_database = not os.environ.get("DATABASE_URL")
        self._sandbox = not os.environ.get("PALOMAR_TWILIO_API_URL")
        self._stack = Stack(STATE, familiar_ports=True, broker=self._own_broker, database=self._own_database)
        self._supervisor = Supervisor(STATE, CHECKOUT, _say)
        self._ports: dict[str, int] = {}
        self._health_port = RECEIVE_HEALTH_PORT
        self._api_port = API_PORT
        self._grace = 20.0

    def start(self) -> None:
        servers = ["RabbitMQ"] * self._own_broker + ["PostgreSQL"] * self._own_database
        if servers:
            _say(f"Starting {' and '.join(servers)}.")
        self._stack.start()
        if not self._own_broker:
            log.configure("palomar up", "critical")  # reach_broker reports what is wrong, once
            asyncio.run(external_services.reach_broker(os.environ["AMQP_URL"]))
        values = self._settle()
        with external_services.migrating():
            applied = migrate.apply(values["DATABASE_URL"])
        if applied:
            _say(f"Migrated the database: {', '.join(applied)}.")
        file = STATE / "env"
        environment.write(file, values)
        os.environ.update(values)
        settings = load(env_file=None)
        self._grace = settings.stop_grace + 5
        if self._sandbox:
            asyncio.run(tenants.ensure(settings))
            self._show_new_key(asyncio.run(demo_key.ensure(settings)))
        self._start_processes()
        unready = self._await_ready()
        for name, why in unready.items():
            _say(f"{name} is not ready: {why}. Its log: {STATE}/logs/{name}.log")
        if self._sandbox and not unready:
            self._converse(settings)
        _say("\n".join(["", *self.addresses(), "", "Ctrl-C stops everything."]))

    def _show_new_key(self, key: str | None) -> None:
        if key is not None:
            _say(f"Made a key for the API, of the tenant {tenants.DEMOS[tenants.USUAL].tenant!r}: {key}")
            _say(f"It stays in {STATE / demo_key.FILE}.")

    def _converse(self, settings: Settings) -> None:
        """One conversation through the real path; where it gets stuck, the system stays up to be looked at."""
        try:
            asyncio.run(say.converse(settings, "hola"))
        except Problem as problem:
            _say(f"{problem.message}\n{problem.remedy}")

    def addresses(self) -> list[str]:
        """What there is to open, a line each."""
        lines = [
            f"webhooks   http://127.0.0.1:{self._ports[self._public]}",
            f"API        http://127.0.0.1:{self._api_port}/v1",
        ]
        if self._own_broker:
            broker = self._stack.rabbitmq
            lines.append(f"RabbitMQ   {broker.management_url}  user {broker.user}, password {broker.password}")
        if self._sandbox:
            lines.append(f"sandbox    http://127.0.0.1:{self._ports['sandbox']}")
        ports = {**self._ports, self._public: self._health_port}
        metrics = ", ".join(f"{name} :{port}" for name, port in ports.items() if name != "sandbox")
        lines.append(f"metrics    http://127.0.0.1:PORT/metrics of {metrics}")
        lines.append(f"logs       {STATE}/logs/NAME.log; warnings and errors appear here too")
        return lines

    def watch(self) -> None:
        """Keep everything running until a signal raises KeyboardInterrupt."""
        while True:
            self._supervisor.tick()
            for name in self._stack.revive():
                _say(f"{name} had ended, and runs again.")
            time.sleep(TICK)

    def stop(self) -> None:
        """The processes first, while broker and database can still take what they finish."""
        try:
            self._supervisor.stop(self._grace)
        finally:
            self._stack.stop()

    def _settle(self) -> dict[str, str]:
        """Choose the processes' ports, and every variable that a process or a second shell needs."""
        self._commands = read_procfile(CHECKOUT / self._procfile)
        if self._sandbox:  # beside the Procfile: it does not belong in production
            self._commands["sandbox"] = "python -m ops.sandbox"
        for name in self._commands:
            self._ports[name] = subprocesses.free_port(PORTS.get(name, OTHER_PORTS), self._ports.values())
        smtp_port = subprocesses.free_port(SMTP_PORT, self._ports.values())
        taken = [*self._ports.values(), smtp_port]
        self._health_port = _given_port("PALOMAR_HEALTH_PORT") or subprocesses.free_port(RECEIVE_HEALTH_PORT, taken)
        taken.append(self._health_port)
        self._api_port = _given_port("PALOMAR_API_PORT") or subprocesses.free_port(API_PORT, taken)
        defaults = {
            "PALOMAR_API_PORT": str(self._api_port),
            environment.SECRET_KEYS: environment.secret_keys(STATE / "env"),
            "PALOMAR_STATE_DIR": str(STATE),
            "PALOMAR_PUBLIC_URL": f"http://127.0.0.1:{self._ports[self._public]}",
        }
        if self._own_broker:
            defaults["AMQP_URL"] = self._stack.amqp_url
        if self._own_database:
            defaults["DATABASE_URL"] = self._stack.database_url
        if self._sandbox:
            sandbox = f"http://127.0.0.1:{self._ports['sandbox']}"
            defaults |= {
                "PALOMAR_SANDBOX_URL": sandbox,
                "PALOMAR_TRUSTED_ORIGINS": orjson.dumps([sandbox, sandbox.replace("127.0.0.1", "localhost")]).decode(),
                "PALOMAR_TWILIO_API_URL": sandbox,
                "PALOMAR_META_API_URL": sandbox,
                "PALOMAR_KOMMO_API_URL": sandbox,
                "PALOMAR_SANDBOX_SMTP_PORT": str(smtp_port),
                "PALOMAR_SMTP_PRIVATE_HOSTS": "127.0.0.1",
                "PALOMAR_LLM_BASE_URL": f"{sandbox}/v1",
                "PALOMAR_LLM_API_KEY": API_KEY,
            }
        return environment.settle(defaults)

    def _start_processes(self) -> None:
        _say(f"Starting {', '.join(self._commands)}.")
        here = Path(sys.executable).parent
        env = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', os.defpath)}", "PYTHONUNBUFFERED": "1"}
        for name, command in self._commands.items():
            health_port = self._health_port if name == self._public else None
            self._supervisor.start(name, command, self._ports[name], env, health_port=health_port)

    def _await_ready(self) -> dict[str, str]:
        """Wait until every process says it is ready; returns those that are not, with what they say."""
        deadline = time.monotonic() + READY_TIMEOUT
        waiting = {child.name: child for child in self._supervisor.children}
        reasons: dict[str, str] = {}
        while waiting and time.monotonic() < deadline:
            self._supervisor.tick()
            reasons = {name: why for name, child in waiting.items() if (why := _unready(child))}
            waiting = {name: waiting[name] for name in reasons}
            time.sleep(TICK)
        return reasons


def _given_port(variable: str) -> int | None:
    """The port that the user's environment names; None where it names none. Raises Problem."""
    given = os.environ.get(variable)
    if given and not given.isdecimal():
        raise Problem(f"{variable} is no port: {given}.", "Set it to a number, or leave it out.")
    return int(given) if given else None


def _unready(child: Child) -> str:
    """Why a process is not ready, in its own words; empty when it is."""
    connection = http.client.HTTPConnection("127.0.0.1", child.health_port, timeout=2)
    try:
        with contextlib.closing(connection):
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            text = answer.read(500).decode(errors="replace")
            return "" if answer.status == http.client.OK else text
    except (OSError, http.client.HTTPException) as error:
        return f"port {child.health_port}: {error}"


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[Path]:
    """One `up` at a time: the kernel lets the lock go however its holder ends."""
    state.mkdir(mode=0o711, exist_ok=True)
    path = state / "up.lock"
    with path.open("a") as lock:
        path.chmod(0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, *addresses = path.read_text().splitlines() or ["?"]
            raise Problem(
                "\n".join([f"Already running, process {pid}.", *addresses]), "Stop it there with Ctrl-C."
            ) from None
        path.write_text(f"{os.getpid()}\n(still starting)\n")
        yield path
        path.write_text("")


@contextlib.contextmanager
def _signals(state: Path) -> Iterator[threading.Event]:
    """The first SIGINT, SIGTERM or SIGHUP raises KeyboardInterrupt; once stopping, it kills what is left instead."""
    stopping = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if not stopping.is_set():
            stopping.set()
            raise KeyboardInterrupt
        for process in subprocesses.belonging_to(state):
            process.kill()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(line: str) -> None:
    print(line, flush=True)
