"""Makes `.venv` exactly as requirements.lock says. Run by ./palomar, with nothing but the standard library at hand.

`.venv/made-from.lock` is a copy of the lock the environment was made from, written last: a run that was killed
half-way leaves none, and the next one starts over. The kernel's file lock lets one run work while others wait; the
kernel releases it however its holder ends.
"""

import fcntl
import filecmp
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
MADE_FROM = VENV / "made-from.lock"
# Settings that would make pip install somewhere else, or something else, than the lock says. Indexes, proxies and
# certificates are the user's own and stay.
MISLEADING = (
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_NO_DEPS",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_DRY_RUN",
)


def main() -> int:
    for name in MISLEADING:
        os.environ.pop(name, None)
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # An installer that outlives a killed run keeps the lock, so that no second one writes beside it.
        os.set_inheritable(lock.fileno(), True)
        if not _is_current():
            try:
                _make()
            except KeyboardInterrupt:
                print("Stopped; ./palomar starts it over.", file=sys.stderr)
                return 130
            except subprocess.CalledProcessError as error:
                print(
                    f"Making .venv failed: {' '.join(map(str, error.cmd[:4]))} … ended with {error.returncode}.",
                    file=sys.stderr,
                )
                print("See the lines above; then run ./palomar again, it starts over.", file=sys.stderr)
                return 1
    return 0


def _is_current() -> bool:
    return (
        MADE_FROM.exists()
        and filecmp.cmp(LOCK, MADE_FROM, shallow=False)
        and os.access(VENV / "bin" / "python", os.X_OK)
    )


def _make() -> None:
    started = time.monotonic()
    print("Making .venv from requirements.lock: once, about a minute (network needed).", file=sys.stderr, flush=True)
    whole = MADE_FROM.exists() and os.access(VENV / "bin" / "python", os.X_OK)
    MADE_FROM.unlink(missing_ok=True)
    uv = shutil.which("uv")
    if uv:
        if not whole:
            _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENV)
        _run(uv, "pip", "sync", "--quiet", "--require-hashes", "--python", VENV / "bin" / "python", LOCK)
    else:
        if not whole:
            _venv()
        pip = (VENV / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
        _run(*pip, "install", "-qq", "--require-hashes", "--no-deps", "-r", LOCK)
    partial = MADE_FROM.with_suffix(".partial")
    shutil.copyfile(LOCK, partial)
    partial.replace(MADE_FROM)
    print(f"Made .venv in {time.monotonic() - started:.0f} s.", file=sys.stderr, flush=True)


def _venv() -> None:
    """`python -m venv`; Debian keeps its second half, ensurepip, in a package of its own."""
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        package = f"python3.{sys.version_info.minor}-venv"
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            print(f"Python's venv module is incomplete. As root: apt-get install {package}", file=sys.stderr)
            raise SystemExit(1) from None
        print(f"Installing {package}, which Debian keeps apart from Python.", file=sys.stderr, flush=True)
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        _run("apt-get", "-qq", "update")
        _run("apt-get", "-qq", "install", "--no-install-recommends", "-y", package)
    _run(sys.executable, "-m", "venv", "--clear", VENV)


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr, close_fds=False)


if __name__ == "__main__":
    raise SystemExit(main())
