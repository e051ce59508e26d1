"""One check of `verify`: a query whose rows are what is wrong. No rows mean ✓."""

from dataclasses import dataclass
from typing import Any, Final

MIGRATE: Final = "Run ./palomar migrate."
REPAIR: Final = "Run ./palomar migrate --repair."


@dataclass(frozen=True, slots=True)
class Check:
    """`query` gives a row with one text for each thing that is wrong."""

    group: str
    name: str
    query: str
    values: tuple[Any, ...]
    remedy: str

    @property
    def mended_by_repair(self) -> bool:
        return self.remedy.endswith(REPAIR)
