"""The variables of a message template, and its text with values."""

import pytest

from shared.domain.template_text import Filled, fill, variables


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Hello {{1}}, your order {{2}} is ready, {{1}}", ["1", "2"]),
        ("Hola {{ first name }}", [" first name "]),
        ("no variable: {1} {{}} }}{{", []),
        ("{{{1}}}", ["1"]),
        ("", []),
    ],
)
def test_variables_stand_in_double_braces(text: str, names: list[str]) -> None:
    assert variables(text) == names


def test_a_text_is_filled_in_and_what_does_not_fit_is_named() -> None:
    filled = fill("Hello {{1}}, {{2}} and {{3}}", {"1": "Ana", "3": "{{2}}", "4": "x"})
    assert filled == Filled("Hello Ana, {{2}} and {{2}}", missing=("2",), unused=("4",))
