"""When an outage is worth a line."""

from shared.process.outage_log import REMINDER, OutageLog


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_an_outage_is_logged_as_it_begins_and_once_a_minute_and_not_at_each_try() -> None:
    clock = Clock()
    outage = OutageLog(clock)
    lines = []
    for second in range(181):
        clock.at = 100.0 + second
        if (lasted := outage.failed()) is not None:
            lines.append(lasted)
    assert lines == [0.0, REMINDER, 2 * REMINDER, 3 * REMINDER]


def test_the_end_tells_how_long_it_lasted_and_only_once() -> None:
    clock = Clock()
    outage = OutageLog(clock)
    assert outage.ended() is None
    outage.failed()
    clock.at += 7.5
    assert outage.ended() == 7.5
    assert outage.ended() is None
    assert outage.failed() == 0.0  # the next one begins anew
