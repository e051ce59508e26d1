"""Counts the outcomes of a source's rows: new, there already, skipped and mended with their reasons."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ops.imports.values import Reader

NO_KEY: Final = "no id"


@dataclass(frozen=True, slots=True)
class Fate:
    """Of one row: `new`, `there`, or skipped, if there is a reason."""

    is_new: bool
    skipped: str | None = None


NEW: Final = Fate(is_new=True)
THERE: Final = Fate(is_new=False)


@dataclass(slots=True)
class Tally:
    """Of one table."""

    new: int = 0
    there: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "Tally":
        """As `as_json` wrote it."""
        return cls(kept["new"], kept["there"], Counter(kept["skipped"]), Counter(kept["mended"]))

    def as_json(self) -> dict[str, object]:
        return {"new": self.new, "there": self.there, "skipped": dict(self.skipped), "mended": dict(self.mended)}

    def with_rows(self, readers: Sequence[Reader], fates: Sequence[Fate]) -> "Tally":
        """This and these rows; what was mended in one that is skipped, or was there, counts for nothing."""
        sum_ = Tally(self.new, self.there, self.skipped.copy(), self.mended.copy())
        for reader, fate in zip(readers, fates, strict=True):
            if fate.skipped is not None:
                sum_.skipped[fate.skipped] += 1
            elif fate.is_new:
                sum_.new += 1
                sum_.mended.update(reader.mended)
            else:
                sum_.there += 1
        return sum_

    @property
    def seen(self) -> int:
        return self.new + self.there + self.skipped.total()


@dataclass(frozen=True, slots=True)
class Compared:
    """A table on both sides, once all is in."""

    table: str
    source: int  # rows there
    ours: int  # of them, those that lead to a row here, counted afresh
    tally: Tally

    @property
    def agrees(self) -> bool:
        """Whether every row is here or has a reason why not."""
        arrived = self.tally.new + self.tally.there
        return self.ours == arrived and self.source == arrived + self.tally.skipped.total()
