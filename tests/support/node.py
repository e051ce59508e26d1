"""Runs tRPC's own clients with Node; both are installed where they are missing, and a test skips where that fails.

Node and npm come from the machine's package manager, the clients from npm, as tests/ingress/api/node/ locks them.
"""

import asyncio
import atexit
import fcntl
import hashlib
import re
import shutil
import subprocess
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import orjson
import pytest

from ops.errors import Problem
from ops.local import packages

FOLDER: Final = Path(__file__).resolve().parents[1] / "ingress" / "api" / "node"
MODULES: Final = FOLDER / "node_modules"
OLDEST: Final = 18  # of the Node that the clients work with
PATIENCE: Final = 60.0  # seconds for one test's calls
Version = Literal["v10", "v11"]
VERSIONS: Final[tuple[Version, ...]] = ("v10", "v11")
_CALLED: Final = re.compile(r"await trpc\.(\w+\.\w+)\.mutate")
REMEDY: Final = f"Install Node {OLDEST} or later and npm yourself."


SNIPPET: Final = FOLDER / "snippet.ts"  # the statements of the fifth document, as they stand there


def statements(procedures: Container[str]) -> list[str]:
    """Those of the document's statements whose procedures there are."""
    every = re.split(r"(?m)^(?=//)", SNIPPET.read_text())
    return [one for one in every if _CALLED.findall(one) and all(name in procedures for name in _CALLED.findall(one))]


@dataclass(frozen=True)
class Reply:
    """What a client made of the answers."""

    results: Sequence[dict[str, Any]]  # each {"data": …} or {"error": …}
    order: Sequence[int]  # the places of the calls, as they ended
    responses: Sequence[dict[str, Any]]  # each {"status": …, "headers": …}
    value: Any = None  # what the script returned


def ready() -> Path:
    """The program, with the clients installed. Skips the test where that is not possible."""
    node, missing = _ready()
    if missing:
        pytest.skip(f"tRPC's clients could not be run: {missing}")
    return node


@cache
def _ready() -> tuple[Path, str]:
    """The program, and what is missing; empty where nothing is."""
    try:
        node, npm = _program("node", "nodejs"), _program("npm", "npm")
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        if int(version.removeprefix("v").partition(".")[0]) < OLDEST:
            raise Problem(f"Node is {version}.", REMEDY)
        _install_clients(npm)
    except Problem as problem:
        return Path(), f"{problem.message} {problem.remedy}"
    return node, ""


class _Client:
    """A process with the client of one version, which makes one test's calls after the other's: it starts slowly."""

    def __init__(self, program: Path, version: Version) -> None:
        self._process = subprocess.Popen(
            [program, "run.mjs"], cwd=FOLDER / version, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        atexit.register(self.end)

    def answer(self, asked: bytes) -> bytes:
        """A line for a line. Raises BrokenPipeError or returns nothing where the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(asked + b"\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def end(self) -> None:
        atexit.unregister(self.end)
        with self._process:  # which closes its streams
            self._process.kill()


_IDLE: dict[Version, list[_Client]] = {version: [] for version in VERSIONS}


async def run(version: Version, **asked: Any) -> Reply:
    """Make calls with the client of this version: common.mjs says which members `asked` has."""
    program = await asyncio.to_thread(ready)
    client = _IDLE[version].pop() if _IDLE[version] else _Client(program, version)
    try:
        async with asyncio.timeout(PATIENCE):
            answer = orjson.loads(await asyncio.to_thread(client.answer, orjson.dumps(asked)))
    except BaseException:
        client.end()
        raise
    _IDLE[version].append(client)
    assert "failed" not in answer, answer["failed"]
    return Reply(**answer)


def modules(version: str) -> Path:
    """The folder of the packages of one version. npm has put one version's into the folder that all share."""
    own = FOLDER / version / "node_modules"
    return own if own.exists() else MODULES


def _program(name: str, package: str) -> Path:
    if (found := shutil.which(name)) is not None:
        return Path(found)
    if packages.has_apt():
        packages.apt_install(package, services=(), remedy=REMEDY)
    elif packages.has_brew():
        packages.brew_install("node", remedy=REMEDY)
    if (found := shutil.which(name)) is None:
        raise Problem(f"There is no {name}.", REMEDY)
    return Path(found)


def _install_clients(npm: Path) -> None:
    """Install what the lock file names, once for all processes that run tests."""
    wanted = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    MODULES.mkdir(exist_ok=True)
    with (FOLDER / "node_modules.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made_from = MODULES / "made-from-lock"
        if made_from.exists() and made_from.read_text() == wanted:
            return
        done = subprocess.run([npm, "ci", "--no-progress"], cwd=FOLDER, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Problem(f"npm ci failed: {done.stderr.strip()[-300:]}", "Let npm reach its registry.")
        made_from.write_text(wanted)
