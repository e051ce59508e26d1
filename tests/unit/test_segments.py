"""How many SMS a text is, and how one is cut to fewer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.sms_segments import BASIC, EXTENSION, MOST, facts, fitted, size, too_long


@pytest.mark.parametrize(
    ("text", "encoding", "units", "segments"),
    [
        ("", "gsm7", 0, 1),
        ("a" * 160, "gsm7", 160, 1),
        ("a" * 161, "gsm7", 161, 2),
        ("a" * 306, "gsm7", 306, 2),
        ("a" * 307, "gsm7", 307, 3),
        ("ñ" * 160, "gsm7", 160, 1),
        ("¿Qué día? Ñandú, sí\n", "ucs2", 20, 1),  # í and ú are none of GSM's
        ("¿Qué pasa, señor? à é ù ü Ö", "gsm7", 27, 1),
        ("12 €", "gsm7", 5, 1),
        ("€" * 80, "gsm7", 160, 1),
        ("€" * 81, "gsm7", 162, 2),
        ("€" * 153, "gsm7", 306, 3),  # 76 in each: a pair is not divided
        ("a" * 152 + "€" + "a" * 7, "gsm7", 161, 2),
        ("á" * 70, "ucs2", 70, 1),
        ("á" * 71, "ucs2", 71, 2),
        ("á" * 134, "ucs2", 134, 2),
        ("á" * 135, "ucs2", 135, 3),
        ("a" * 69 + "…", "ucs2", 70, 1),
        ("🕊" * 35, "ucs2", 70, 1),
        ("🕊" * 36, "ucs2", 72, 2),
        ("🕊" * 67, "ucs2", 134, 3),  # 33 in each
        ("{[~]}\\^|\f", "gsm7", 18, 1),
    ],
)
def test_a_text_is_so_many_sms(text: str, encoding: str, units: int, segments: int) -> None:
    found = size(text)
    assert (found.encoding, found.units, found.segments) == (encoding, units, segments)


def test_the_alphabet_has_its_128_places() -> None:
    assert len(BASIC) == 127  # and the escape to the extension
    assert len(EXTENSION) == 10
    assert not BASIC & EXTENSION


@pytest.mark.parametrize(
    ("text", "leaves"),
    [("a" * 1530, True), ("a" * 1531, False), ("á" * 670, True), ("á" * 671, False), ("a" * 1600, False)],
)
def test_more_than_ten_do_not_leave(text: str, leaves: bool) -> None:
    reason = too_long(text)
    assert (reason is None) is leaves
    assert reason is None or f"{len(text)} characters" in reason
    assert facts("hola") == {"sms": {"segments": 1, "encoding": "gsm7"}}


def test_a_cut_text_ends_after_a_word_in_its_own_alphabet() -> None:
    text = "una paloma mensajera " * 20
    cut = fitted(text, 1)
    assert size(cut).segments == 1
    assert size(cut).encoding == "gsm7"
    assert cut.endswith(("una...", "paloma...", "mensajera..."))
    assert len(cut) > 140
    assert fitted("hola", 1) == "hola"
    assert size(fitted("a" * 5000, MOST)).segments == MOST


@given(st.text(max_size=700), st.integers(1, 4))
def test_whatever_the_text_what_is_left_fits(text: str, most: int) -> None:
    assert size(fitted(text, most)).segments <= most
