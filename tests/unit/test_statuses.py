"""States, edges and receipts: a message only goes forward, whatever receipts come and in whatever order."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.statuses import EDGES, RANK, TERMINAL, Status, after_receipt, may, meaning, releases

WORDS = ["accepted", "queued", "sending", "sent", "delivered", "read", "undelivered", "failed", "played", "received"]
STATES: list[Status] = list(EDGES)


@pytest.mark.parametrize(
    ("word", "means"),
    [
        ("queued", "sent"),  # at the provider, which is where our part ends
        ("accepted", "sent"),
        ("scheduled", "sent"),
        ("sent", "sent"),
        ("Delivered", "delivered"),
        ("read", "read"),
        ("played", "read"),
        ("undelivered", "failed"),
        ("canceled", "failed"),
        ("received", None),
        ("deleted", None),
        ("", None),
    ],
)
def test_what_a_providers_word_means(word: str, means: str | None) -> None:
    assert meaning(word) == means


@pytest.mark.parametrize(
    ("current", "word", "becomes"),
    [
        ("sent", "delivered", "delivered"),
        ("sent", "read", "read"),
        ("sent", "failed", "failed"),
        ("sent", "sent", None),
        ("delivered", "sent", None),
        ("delivered", "failed", None),
        ("read", "failed", None),
        ("failed", "sent", None),
        ("failed", "delivered", "delivered"),
        ("failed", "undelivered", None),
        ("sending", "queued", "sent"),
        ("unknown", "sent", "sent"),
        ("ready", "delivered", "delivered"),
        ("queued", "delivered", None),
        ("held", "delivered", None),
        ("expired", "delivered", None),
        ("canceled", "delivered", None),
        ("received", "read", None),
    ],
)
def test_what_a_receipt_leads_to(current: str, word: str, becomes: str | None) -> None:
    assert after_receipt(current, word) == becomes


@pytest.mark.parametrize(
    ("current", "word", "released"),
    [
        ("sent", "sent", True),
        ("sent", "accepted", True),
        ("sent", "delivered", False),  # it moves the message, which ends the hold too
        ("delivered", "sent", False),
        ("failed", "sent", False),
        ("sent", "deleted", False),
    ],
)
def test_which_receipt_releases_a_held_message(current: str, word: str, released: bool) -> None:
    assert releases(current, word) is released


def status_after(start: str, words: Sequence[str]) -> str:
    status = start
    for word in words:
        status = after_receipt(status, word) or status
    return status


@given(
    st.sampled_from(["sent", "sending", "unknown", "ready"]), st.lists(st.sampled_from(WORDS), max_size=8), st.data()
)
def test_the_order_of_receipts_does_not_matter(start: str, words: list[str], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(words))
    assert status_after(start, words) == status_after(start, shuffled)


@given(st.sampled_from(STATES), st.lists(st.sampled_from(WORDS), max_size=8))
def test_no_receipt_moves_a_message_back(start: str, words: list[str]) -> None:
    status = start
    for word in words:
        following = after_receipt(status, word) or status
        assert RANK.get(following, 0) >= RANK.get(status, 0)
        status = following


@pytest.mark.parametrize(
    ("current", "target", "allowed"),
    [
        ("queued", "ready", True),
        ("queued", "sending", False),
        ("held", "queued", True),
        ("held", "ready", False),
        ("ready", "sending", True),
        ("sending", "ready", True),
        ("sending", "unknown", True),
        ("unknown", "ready", False),  # what may have been sent is never sent again by itself
        ("unknown", "queued", False),
        ("sent", "ready", False),
        ("failed", "queued", False),
    ],
)
def test_which_edges_there_are(current: Status, target: Status, allowed: bool) -> None:
    assert may(current, target) is allowed


@pytest.mark.parametrize("status", STATES)
def test_no_edge_leads_out_of_a_terminal_state_and_one_out_of_each_other(status: Status) -> None:
    assert (status in TERMINAL) == (not EDGES[status])
    reached, todo = {status}, [status]
    while todo:
        for following in EDGES[todo.pop()] - reached:
            reached.add(following)
            todo.append(following)
    assert reached & TERMINAL
