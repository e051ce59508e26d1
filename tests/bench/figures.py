"""What a row measures: rounds of floor and ours, the ratio that decides, and the goal it is held to. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Literal

Advance = Callable[[], None]  # called after each round, the first one to warm up included
MEMORY_GOAL = 150 * 1024**2  # bytes; of each of our processes, in every row


@dataclass(frozen=True, slots=True)
class Goal:
    """What the ratio of ours to the floor must be."""

    kind: Literal["at least", "at most", "below"]
    ratio: float

    def reached(self, ratio: float) -> bool:
        match self.kind:
            case "at least":
                return ratio >= self.ratio
            case "at most":
                return ratio <= self.ratio
            case "below":
                return ratio < self.ratio

    def __str__(self) -> str:
        return f"{ {'at least': '≥', 'at most': '≤', 'below': '<'}[self.kind] } {self.ratio:g}"


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a row over all rounds: floor and ours side by side, in `unit`."""

    row: str
    name: str
    unit: Literal["/s", "ms", "KB", "MiB", "s"]
    goal: Goal
    floor: Sequence[float]
    ours: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        return [ours / floor for floor, ours in zip(self.floor, self.ours, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: a round that something else disturbed decides nothing."""
        return median(self.ratios)

    @property
    def reached(self) -> bool:
        return self.goal.reached(self.ratio)

    def view(self) -> dict[str, object]:
        return {
            **asdict(self),
            "goal": str(self.goal),
            "median_floor": median(self.floor),
            "median_ours": median(self.ours),
            "ratios": self.ratios,
            "ratio": self.ratio,
            "reached": self.reached,
        }


@dataclass(frozen=True, slots=True)
class Peak:
    """The most memory a process had in a row; `ours` False: a floor's, for comparison. None: not known here."""

    row: str
    process: str
    bytes: int | None
    ours: bool = True

    @property
    def reached(self) -> bool:
        return not self.ours or self.bytes is None or self.bytes <= MEMORY_GOAL


@dataclass(frozen=True, slots=True)
class Table:
    """What a row shows beside its figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(slots=True)
class Result:
    """A row: its figures, its processes' memory, how it was measured, and whatever else was seen round by round."""

    row: str
    how: str
    measures: list[Measure] = field(default_factory=list)
    peaks: list[Peak] = field(default_factory=list)
    seen: dict[str, object] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # of what must hold and is no ratio, in words

    def missed(self) -> list[str]:
        """The goals that were not reached, in words."""
        figures = [
            f"{one.row}, {one.name}: {one.ratio:.2f}, the goal is {one.goal}"
            for one in self.measures
            if not one.reached
        ]
        memory = [
            f"{peak.row}, {peak.process}: {peak.bytes / 1024**2:.0f} MB, the goal is {MEMORY_GOAL // 1024**2}"
            for peak in self.peaks
            if peak.bytes is not None and not peak.reached
        ]
        return figures + memory + self.failures

    def view(self) -> dict[str, object]:
        return {
            "row": self.row,
            "how": self.how,
            "measures": [measure.view() for measure in self.measures],
            "peaks": [asdict(peak) | {"reached": peak.reached} for peak in self.peaks],
            **self.seen,
        }


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is at or below (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def middle_rate(progress: Sequence[tuple[int, float]]) -> float:
    """Items a second between a fifth and four fifths of all, of (items so far, seconds) in order.

    The beginning is warming up, and at the end there is too little left to fill a batch.
    """
    total = progress[-1][0]
    part = [(count, at) for count, at in progress if 0.2 * total <= count <= 0.8 * total]
    (first, started), (last, ended) = part[0], part[-1]
    return (last - first) / (ended - started)
