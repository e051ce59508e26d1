"""python -m schema migrate | rollback [N] | status: the schema of the database that DATABASE_URL names."""

import argparse

from schema import migrate
from shared.settings import settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m schema", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("migrate", help="apply what is missing")
    commands.add_parser("rollback", help="take the last migrations back").add_argument(
        "count", type=int, nargs="?", default=1, help="how many; 1 where left out"
    )
    commands.add_parser("status", help="list the migrations")
    arguments = parser.parse_args()
    url = settings().database_url.get_secret_value()
    if arguments.command == "migrate":
        for name in migrate.apply(url):
            print(f"applied {name}")
    elif arguments.command == "rollback":
        for name in migrate.rollback(url, arguments.count):
            print(f"rolled back {name}")
    else:
        for step in migrate.status(url):
            print(f"{'applied' if step.applied else 'missing'}  {step.name}")


if __name__ == "__main__":
    main()
