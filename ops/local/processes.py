"""Lists the running processes of one state folder, by asking the kernel and the processes themselves.

Nothing is written down anywhere, so nothing goes stale: a process is ours by its command line and by the state folder
its environment names, however it was started (by `up`, a supervisor, a person in a second shell).
"""

import asyncio
import contextlib
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from shared.settings import API_PORT, RECEIVE_PORT

if TYPE_CHECKING:
    import psutil  # of the extra `local`, which a production machine need not have

CHECKOUT = Path(__file__).resolve().parents[2]
MODULES = ("ingress", "workers", "ops.sandbox")
PUBLIC = (["ingress", "receive"], ["workers", "all"])  # whose PORT is the providers'
PATIENCE = aiohttp.ClientTimeout(total=2)  # seconds for one answer

Metrics = Mapping[str, Mapping[str, float]]
"""Name → value by queue; a metric without that label has the queue ``."""


@dataclass(frozen=True, slots=True)
class Found:
    """A process as the kernel knows it. `port` is None while it listens nowhere."""

    name: str  # its Procfile line's, else what stands behind its module
    pid: int
    host: str
    port: int | None


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it describes itself. `missing` is what keeps it from being ready, `warnings` what does not, each
    with its reason."""

    name: str
    pid: int
    port: int | None
    missing: Mapping[str, str]
    warnings: Mapping[str, str] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return not self.missing


def expected(procfile: Path = CHECKOUT / "Procfile") -> dict[str, tuple[str, ...]]:
    """The Procfile's processes: name → arguments behind the interpreter. None where there is no checkout."""
    if not procfile.exists():
        return {}
    from ops.local.supervisor import read_procfile

    return {name: tuple(shlex.split(command)[1:]) for name, command in read_procfile(procfile).items()}


def find(state: Path) -> list[Found]:
    """Our processes that work on this state folder, in the order of the Procfile.

    Raises ModuleNotFoundError without the extra `local`.
    """
    import psutil

    names = {arguments: name for name, arguments in expected().items()}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            arguments = _arguments(process.cmdline())
            if arguments is None or _state(process) != state.resolve():
                continue
            host, port = _listens(process)
            found.append(
                Found(names.get(arguments) or " ".join(arguments[2:]) or arguments[1], process.pid, host, port)
            )
    order = list(names.values())
    return sorted(found, key=lambda one: (order.index(one.name) if one.name in order else len(order), one.pid))


def _arguments(command: list[str]) -> tuple[str, ...] | None:
    """`-m workers persist` of a command line that runs one of our modules."""
    if len(command) < 3 or command[1] != "-m" or command[2] not in MODULES:
        return None
    return tuple(command[1:])


def _state(process: "psutil.Process") -> Path:
    return Path(process.cwd(), process.environ().get("PALOMAR_STATE_DIR") or ".palomar").resolve()


def _listens(process: "psutil.Process") -> tuple[str, int | None]:
    """Where it serves its health: at its PORT, or at PALOMAR_HEALTH_PORT where the public has that. `api` has another
    port for its clients, and the sandbox one for mails."""
    import psutil

    listening = [one.laddr for one in process.net_connections(kind="tcp") if one.status == psutil.CONN_LISTEN]
    environment = process.environ()
    own = environment.get("PORT")
    other = {environment.get("PALOMAR_SANDBOX_SMTP_PORT"), environment.get("PALOMAR_API_PORT") or str(API_PORT)}
    if process.cmdline()[2:4] in PUBLIC:
        other.add(own or str(RECEIVE_PORT))
        own = environment.get("PALOMAR_HEALTH_PORT")
    listening.sort(key=lambda one: (str(one.port) != own, str(one.port) in other))
    for host, port, *_ in listening:
        return ("127.0.0.1" if host in ("0.0.0.0", "::") else host), port
    return "", None


async def ask(found: Iterable[Found]) -> list[Process]:
    """What they say of themselves at /readyz and /metrics; one that does not answer is not ready."""
    async with aiohttp.ClientSession(timeout=PATIENCE) as client:
        return list(await asyncio.gather(*(_ask(client, one) for one in found)))


async def _ask(client: aiohttp.ClientSession, one: Found) -> Process:
    if one.port is None:
        return Process(one.name, one.pid, None, {"http": "listens nowhere yet; it may be starting"})
    host = f"[{one.host}]" if ":" in one.host else one.host
    base = f"http://{host}:{one.port}"
    try:
        async with client.get(f"{base}/readyz") as answer:
            ready = await answer.json()
        async with client.get(f"{base}/metrics") as answer:
            # The sandbox counts nothing.
            metrics = _metrics(await answer.text()) if answer.ok else {}
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return Process(one.name, one.pid, one.port, {"http": f"does not answer ({type(error).__name__})"})
    return Process(one.name, one.pid, one.port, ready.get("missing", {}), ready.get("warnings", {}), metrics)


def _metrics(text: str) -> Metrics:
    values: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("palomar_") and set(sample.labels) <= {"queue"}:
                values.setdefault(sample.name, {})[sample.labels.get("queue", "")] = sample.value
    return values
