"""palomar check: lint, format, types and the walls between the packages."""

import subprocess
import sys
import time
from pathlib import Path

from ops.errors import Problem

CHECKS = {
    "lint": ("ruff", "check"),
    "format": ("ruff", "format", "--check"),
    "types": ("mypy", "--strict"),
    "imports": ("lint-imports", "--no-logo"),
}


def check() -> None:
    """Run every check, also after one failed; print what failed and why."""
    failed = []
    for name, (tool, *arguments) in CHECKS.items():
        started = time.monotonic()
        done = subprocess.run(
            [Path(sys.executable).with_name(tool), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        verdict = "failed" if done.returncode else "ok"
        print(f"{name:8} {verdict:6} {time.monotonic() - started:5.1f} s", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout.rstrip(), flush=True)
    if failed:
        raise Problem(f"Failed: {', '.join(failed)}.", "`ruff check --fix` and `ruff format` repair some of it.")
