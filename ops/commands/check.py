"""palomar check: lint, format, types, the walls between the rooms, and words that are no longer used."""

import importlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ops.errors import Problem

CHECKS = {
    "types": ("mypy", "--strict"),  # takes longest, so it comes first
    "imports": ("lint-imports", "--no-logo"),
    "lint": ("ruff", "check"),
    "format": ("ruff", "format", "--check"),
    "words": ("python", "-m", "ops.words"),
}
AT_ONCE = 2


def check() -> None:
    """Run every check, also after one failed; print what failed and why."""
    importlib.import_module("mypy")  # where the tools are missing the command says so
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failed = [name for name, passed in zip(CHECKS, pool.map(_check, CHECKS), strict=True) if not passed]
    if failed:
        raise Problem(f"Failed: {', '.join(failed)}.", "`ruff check --fix` and `ruff format` repair some of it.")


def _check(name: str) -> bool:
    """Run one, print in one piece what came of it, and say whether it passed."""
    tool, *arguments = CHECKS[name]
    started = time.monotonic()
    done = subprocess.run(
        [Path(sys.executable).with_name(tool), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    verdict = "failed" if done.returncode else "ok"
    line = f"{name:8} {verdict:6} {time.monotonic() - started:5.1f} s\n"
    print(line + (f"{done.stdout.rstrip()}\n" if done.returncode else ""), end="", flush=True)
    return not done.returncode
