"""How many places a channel may hold while it waits for somebody else, and when one that found none asks again."""

from contextlib import ExitStack
from datetime import timedelta
from uuid import UUID

import pytest

from shared.resilience.bulkhead import MOST_WAITING, Lane, NoPlaceError, Places, wait_for_place

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


# -- a lane's places ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "places", "each_at_most", "free_at_least"), [(1, 64, 32, 32), (2, 64, 32, 16), (20, 64, 32, 1)]
)
def test_however_many_channels_hang_the_next_one_finds_a_place(
    channels: int, places: int, each_at_most: int, free_at_least: int
) -> None:
    lane: Lane[str] = Lane(places)
    held = [0] * channels
    with ExitStack() as stack:
        for turn in range(places * channels):
            number = turn % channels
            try:
                stack.enter_context(lane.held(UUID(int=number + 1)))
            except NoPlaceError:
                continue
            held[number] += 1
        assert max(held) <= each_at_most
        assert places - sum(held) >= free_at_least
        assert min(held) > 0
        with lane.held(UUID(int=1000)):
            pass
    with lane.held(UUID(int=1)):
        pass


def test_what_found_no_place_is_gone_on_with_once_each_in_the_order_of_asking() -> None:
    lane: Lane[str] = Lane(2)
    for what in ("first", "second", "first"):
        lane.remember(A, what)
    lane.remember(B, "another channel's")
    assert [lane.next(A), lane.next(A), lane.next(A)] == ["first", "second", None]
    assert [lane.next(B), lane.next(B)] == ["another channel's", None]


def test_no_more_is_remembered_than_fits() -> None:
    lane: Lane[int] = Lane(2)
    for number in range(MOST_WAITING + 5):
        lane.remember(A, number)
    remembered = 0
    while lane.next(A) is not None:
        remembered += 1
    assert remembered == MOST_WAITING
