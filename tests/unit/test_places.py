"""How many places a channel may hold while its engine waits, and when one that found none asks again."""

from datetime import timedelta
from uuid import UUID

import pytest

from shared.engines.places import NoPlaceError, Places, wait_for_place

A, B = UUID(int=1), UUID(int=2)


def test_a_channel_that_holds_its_share_leaves_the_others_theirs() -> None:
    places = Places(2)
    with places.held(A), places.held(A):
        with pytest.raises(NoPlaceError), places.held(A):
            pass
        with places.held(B):
            pass
    with places.held(A), places.held(A):
        pass


def test_a_place_is_free_again_however_its_answer_ended() -> None:
    places = Places(1)
    with pytest.raises(RuntimeError), places.held(A):
        raise RuntimeError
    with places.held(A):
        pass


def test_a_share_is_at_least_one_place() -> None:
    with Places(0).held(A):
        pass


@pytest.mark.parametrize(
    ("waited", "roll", "seconds"),
    [
        (0, 0.5, 2.0),
        (10, 0.5, 7.0),
        (56, 0.5, 30.0),
        (86_400, 0.5, 30.0),
        (0, 0.0, 1.6),
        (86_400, 1.0, 36.0),
        (-1, 0.5, 2.0),  # the clock was set back
    ],
)
def test_the_longer_it_has_waited_the_later_it_asks_again(waited: float, roll: float, seconds: float) -> None:
    assert wait_for_place(timedelta(seconds=waited), roll).total_seconds() == pytest.approx(seconds)
