"""python -m schema migrate | rollback [N] | status | verify | shape: the schema of DATABASE_URL's database."""

import argparse
import sys

import psycopg
from rich.console import Console

from schema import findings, locks, migrate, shape
from schema.verify import verify
from shared.settings import SettingsInvalid, settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m schema", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("migrate", help="apply what is missing")
    commands.add_parser("rollback", help="take the last migrations back").add_argument(
        "count", type=int, nargs="?", default=1, help="how many; 1 where left out"
    )
    commands.add_parser("status", help="list the migrations")
    commands.add_parser("verify", help="check that all is as it should be; exit code 1 where it is not")
    commands.add_parser("shape", help="print what verify compares with, from a database that was only ever migrated")
    arguments = parser.parse_args()
    try:
        url = settings().database_session_url
        if arguments.command == "migrate":
            for name in migrate.apply(url):
                print(f"applied {name}")
        elif arguments.command == "rollback":
            for name in migrate.rollback(url, arguments.count):
                print(f"rolled back {name}")
        elif arguments.command == "status":
            for step in migrate.status(url):
                print(f"{'applied' if step.applied else 'missing'}  {step.name}")
        elif arguments.command == "shape":
            print(shape.found(url).written(), end="")
        else:
            _verify(url)
    except (SettingsInvalid, locks.Blocked) as error:
        sys.exit(str(error))
    except migrate.NotGranted as error:
        sys.exit(f"{error}\nAs a superuser or as their maker, run: {error.statement}")
    except psycopg.OperationalError as error:
        sys.exit(f"PostgreSQL does not answer: {str(error).strip()}")


def _verify(url: str) -> None:
    found = verify(url)
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 160).print(findings.as_table(found))
    print(findings.verdict(found))
    if not all(finding.ok for finding in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
