"""A template's variables as WhatsApp takes them, whatever stood in the contact's name."""

import pytest

from shared.providers.template_values import never_empty, on_one_line


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("Ana", "Ana"),
        ("uno\ndos", "uno dos"),
        ("uno \r\n\r\n dos", "uno dos"),
        ("uno\tdos", "uno dos"),
        ("uno\u2028dos\u0085tres", "uno dos tres"),
        ("a    b", "a    b"),
        ("a     b", "a    b"),
        ("a" + " " * 50 + "b", "a    b"),
        ("  Ana \n", "Ana"),
        ("", "-"),
        (" \n\t", "-"),
        ("\u200b\u200f", "-"),
    ],
)
def test_a_value_is_one_line_and_never_empty(value: str, written: str) -> None:
    assert on_one_line(value) == written


def test_a_value_that_may_have_lines_keeps_them() -> None:
    assert (never_empty("uno\n\ndos"), never_empty(" \n")) == ("uno\n\ndos", "-")
