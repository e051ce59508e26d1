"""Programs of the machine's own packages that the tests need beside our stack; installed where they are missing."""

from pathlib import Path

import pytest

from ops.errors import Problem
from ops.local import packages

POSTGRES = Path("/usr/lib/postgresql")
OLDEST = 15  # of the PostgreSQL that Palomar works with
PGBOUNCER = Path("/usr/sbin/pgbouncer")


def postgres() -> Path:
    """The folder of the oldest installed PostgreSQL's binaries: 15 where the distribution has it, else its own.

    Skips the test where nothing can be installed.
    """
    if not _installed():
        _install("postgresql-15", "postgresql", service="postgresql.service")
    return _installed()[0]


def pgbouncer() -> Path:
    """The program. Skips the test where it can't be installed."""
    if not PGBOUNCER.exists():
        _install("pgbouncer", service="pgbouncer.service")
    return PGBOUNCER


def _installed() -> list[Path]:
    versions = [folder for folder in POSTGRES.glob("[0-9]*") if int(folder.name) >= OLDEST]
    found = [folder / "bin" for folder in sorted(versions, key=lambda folder: int(folder.name))]
    return [folder for folder in found if (folder / "initdb").exists()]


def _install(name: str, *others: str, service: str) -> None:
    """The first of these packages that the distribution has."""
    if not packages.has_apt():
        pytest.skip(f"needs Debian's or Ubuntu's package {name}")
    try:
        packages.apt_install(name, services=(service,), remedy=f"Install {name} yourself.")
    except Problem:
        if not others:
            raise
        _install(*others, service=service)
