"""Two machines that answer each other end, on every kind of channel; people who talk a lot go on."""

from typing import get_args

import pytest

from shared.domain.loop_guard import MOST_ANSWERS, MOST_REPEATS, Exchange, is_loop
from shared.domain.model import ChannelKind


@pytest.mark.parametrize("kind", get_args(ChannelKind))
def test_there_is_an_end_on_every_kind_of_channel(kind: ChannelKind) -> None:
    most = MOST_ANSWERS[kind]
    assert [is_loop(kind, Exchange(answers, 0)) for answers in (0, most - 1, most)] == [False, False, True]
    assert [is_loop(kind, Exchange(0, repeats)) for repeats in (MOST_REPEATS - 1, MOST_REPEATS)] == [False, True]


def test_a_channel_may_say_how_much_is_too_much() -> None:
    assert not is_loop("whatsapp", Exchange(999, 999), 1000)
    assert is_loop("whatsapp", Exchange(1000, 0), 1000)
    assert is_loop("whatsapp", Exchange(0, 1000), 1000)
