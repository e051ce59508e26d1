"""The words that `palomar check` refuses."""

from pathlib import Path

import pytest

from ops.words import check, given_up


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("def bury(): ...", "bury"),
        ("class RetryLadder: ...", "ladder"),
        ("def f(told): ...", "told"),
        ("for was_heard in (): ...", "heard"),
        ("self._wishes = 1", "wishes"),
        ("from a import b as keeper", "keeper"),
        ("BRAKE_ON = 1", "brake"),
    ],
)
def test_a_word_that_was_given_up_is_found_in_what_a_module_names(source: str, word: str) -> None:
    assert [found for _, _, found in given_up(source)] == [word]


@pytest.mark.parametrize(
    "source", ["print('told')  # heard", "sandbox.heard()", "toldness = 1", "def unheardof(): ..."]
)
def test_texts_other_words_and_what_others_named_pass(source: str) -> None:
    assert list(given_up(source)) == []


@pytest.mark.parametrize("folder", ["workers", "tests"])
def test_the_modules_of_each_folder_are_checked_the_tests_included(tmp_path: Path, folder: str) -> None:
    module = tmp_path / folder / "unit" / "test_sample.py"
    module.parent.mkdir(parents=True)
    module.write_text("def test_an_outage_is_told() -> None: ...\n")
    (found,) = check(tmp_path)
    assert found.startswith(f"{folder}/unit/test_sample.py:1: test_an_outage_is_told: instead of `told` say ")
