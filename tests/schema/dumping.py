"""A database's schema as pg_dump writes it, to compare: definitions in their order, then who may what."""

import subprocess

from ops.local.postgres import Postgres


def dump(postgres: Postgres, database_url: str) -> list[str]:
    """Its lines. Without the days' partitions, whose names hold the date, and without the migrations' own list."""
    done = subprocess.run(
        [
            postgres.binaries / "pg_dump",
            "--schema-only",
            "--exclude-table=*yoyo*",
            "--exclude-table=(events|inbound_log)_[0-9]*",
            database_url,
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    # pg_dump itself marks each of its scripts with a word made by chance.
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith(("--", "\\"))]
    rights = ("GRANT ", "REVOKE ")
    return [line for line in lines if not line.startswith(rights)] + sorted(
        line for line in lines if line.startswith(rights)
    )
