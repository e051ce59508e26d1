"""Steps between the states of a conversation."""

import pytest

from shared.domain.conversation_status import MOVES, Step, may


@pytest.mark.parametrize(
    ("step", "from_", "to"),
    [
        ("escalate", {"active", "closed"}, "escalated"),
        ("return_to_bot", {"escalated"}, "active"),
        ("close", {"active", "escalated"}, "closed"),
        ("reopen", {"closed"}, "active"),
    ],
)
def test_a_step_leads_on_from_some_states_only(step: Step, from_: set[str], to: str) -> None:
    assert {status for status in ("active", "escalated", "closed") if may(step, status)} == from_
    assert MOVES[step].end == to
    assert to not in from_
