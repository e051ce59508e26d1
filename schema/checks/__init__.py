"""What `verify` checks, as a list of values: first what the documents promise, then what is Palomar's own."""

from pathlib import Path

from schema.checks.check import Check
from schema.checks.documented import documented_checks
from schema.checks.own import own_checks
from schema.migrate import MIGRATIONS


def checks(folder: Path = MIGRATIONS) -> list[Check]:
    """Every check, in the order in which they are shown."""
    return [*documented_checks(), *own_checks(folder)]
