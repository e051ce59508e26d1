"""docs/campaigns.md says what the code does: the states and their edges, the reasons, and the placeholders."""

import re
from pathlib import Path
from typing import Final

from shared.domain.campaigns import placeholders
from shared.domain.campaigns.life import EDGES, MOVES, OVER, STATUSES
from shared.store.campaigns.recipients import STATUSES as RECIPIENT_STATUSES

PAGE: Final = (Path(__file__).resolve().parents[2] / "docs" / "campaigns.md").read_text()
SKIP_REASONS: Final = (
    "opted_out", "inactive", "deleted", "no_address", "us_marketing", "missing_variables", "expired", "window_closed",
)  # fmt: skip
PAUSE_REASONS: Final = (
    "person", "wave", "failures", "opt_outs", "blocks", "held", "channel_stopped", "template_paused",
)  # fmt: skip


def diagram() -> dict[tuple[str, str], set[str]]:
    """The edges of the page's diagram, each with the steps that lead along it."""
    drawn = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", PAGE, re.S)
    assert drawn is not None
    edges = re.findall(r"^\s*(\w+) --> (\w+): (.+)$", drawn[1], re.M)
    return {(start, end): set(steps.split(", ")) for start, end, steps in edges}


def table(heading: str) -> set[str]:
    """The names in the first column of the table with this heading of its first column."""
    rows = re.search(rf"^\| `?{heading}`? \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.M)
    assert rows is not None, heading
    return {name for row in rows[1].splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_the_diagram_has_the_edges_of_the_code_with_their_steps() -> None:
    assert set(diagram()) == EDGES
    for (start, end), steps in diagram().items():
        assert steps == {step for step, move in MOVES.items() if start in move.start and move.end == end}


def test_every_state_is_reached_and_those_that_end_have_no_way_out() -> None:
    assert {end for _, end in diagram()} == set(STATUSES)
    assert {start for start, _ in diagram()} == set(STATUSES) - OVER


def test_every_state_of_a_recipient_and_every_reason_is_explained() -> None:
    assert table("state") == set(RECIPIENT_STATUSES)
    assert set(SKIP_REASONS) <= table("reason")
    assert table("pausedReason") == set(PAUSE_REASONS)


def test_the_placeholders_are_those_that_are_filled() -> None:
    for written in table("placeholder"):
        (found,) = placeholders.parse(written).placeholders
        assert found.default is None
    assert placeholders.parse("{{contact.name|there}}").filled({}) == "there"
