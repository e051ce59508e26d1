"""A cursor survives its way to the client and back, and tells when something behind it may be gone."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.event_cursor import LAST, LENGTH, Cursor

DAY = date(2026, 11, 28)
CURSOR = Cursor(b"abcdef", DAY, (7, 8))


@given(
    st.builds(
        Cursor,
        st.binary(min_size=6, max_size=6),
        st.dates(date(1970, 1, 1), date(2149, 1, 1)),
        st.tuples(st.integers(0, 2**64 - 1), st.integers(-1, LAST)),
    )
)
def test_it_comes_back_as_it_went(cursor: Cursor) -> None:
    assert len(str(cursor)) == LENGTH
    assert Cursor.parse(str(cursor)) == cursor


@given(st.text(max_size=40))
def test_what_is_no_cursor_is_refused(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except ValueError:
        return
    assert str(cursor) == text


@pytest.mark.parametrize("text", ["", "now", "é" * 32, "a" * 31, "a" * 33, "a" * 31 + "!", " " + "a" * 32])
def test_these_are_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Cursor.parse(text)


@pytest.mark.parametrize(("oldest", "may_lack"), [(27, False), (26, False), (28, True)])
def test_it_tells_when_an_event_behind_it_may_be_gone(oldest: int, may_lack: bool) -> None:
    """A transaction that began the day before may have written behind it."""
    assert CURSOR.may_lack(date(2026, 11, oldest)) is may_lack
