"""The rules engine: which message gets which answer, and that no pattern and no text can slow or break it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bot.base import Answer, Turn, plain
from shared.bot.rules import RulesEngine, decide, fold, matches
from shared.domain.channels import LIMIT, ReplySettings, Rule, read_settings

PRICES = Rule(patterns=("*precio*", "prices"), answer="From 10 to 20 pesos.")
HOURS = Rule(patterns=("opening hours", "horario"), answer="Nine to five.")
THANKS = Rule(patterns=("gracias*",), answer="You are welcome.")
EVERYTHING = Rule(patterns=("*",), answer="A person will answer.")
SHOP = ReplySettings(
    rules=(PRICES, HOURS, THANKS),
    greeting="Hi!",
    menu=("Opening hours", "Prices", "Talk to a person"),
    menu_prompt="Pick one:",
    menu_chosen="{choice}, noted.",
    menu_unknown="Pardon?",
    fallback="Later.",
)
MENU = "Pick one:\n1. Opening hours\n2. Prices\n3. Talk to a person"


def _with(**changes: object) -> ReplySettings:
    return ReplySettings.model_validate(SHOP.model_dump() | changes)


def _asked(*texts: str, settings: ReplySettings = SHOP, met: bool = True) -> Answer:
    """The answer to these unanswered messages, from a customer we wrote to before, or not."""
    before = [Turn("user", "hola"), Turn("assistant", "Hi!")] if met else []
    return decide(settings, [*before, *(Turn("user", text) for text in texts)], len(texts))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("hola", "hola"),
        ("hola", "HOLA"),
        ("hola", "  ¡¡Hola!! \n"),
        ("hola", "hola 👋🏽"),
        ("¿Qué tal?", "que   tal"),
        ("adiós", "ADIOS"),
        ("adios", "adio\u0301s"),
        ("straße", "STRASSE"),
        ("istanbul", "İstanbul"),
        ("ﬁn", "fin"),
        ("abc", "\uff21\uff22\uff23"),
        ("hola", "ho\u200bla\ufeff"),
        ("👍", "👍"),
        ("👍", "👍\ufe0f"),
        ("?", "?"),
        ("*precio*", "¿cuál es el precio de esto?"),
        ("*precio?*", "¿el precio?"),
        ("*precio?", "¿el precio?"),
        ("hola*", "¡Hola, buenas!"),
        ("*gracias", "muchas GRACIAS."),
        ("a*b*c", "a-b-b-c"),
        ("a**c", "ac"),
        ("ab*bc", "abbc"),
        ("\uff0aprecio\uff0a", "el precio"),
        ("*", ""),
        ("*", "¿?"),
    ],
)
def test_a_pattern_matches_without_case_accents_and_the_punctuation_around(pattern: str, text: str) -> None:
    assert matches(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("hola", "hola amigo"),
        ("hola", ""),
        ("hola", "*"),
        ("hola*", "digo hola"),
        ("*hola", "hola amigo"),
        ("*a*b*", "b a"),
        ("ab*bc", "abc"),
        ("a*a", "a"),
        ("h.la", "hola"),
        ("h?la", "hola"),
        ("[a-z]*", "hola"),
        ("👍", "👎"),
        ("\u200b", ""),
        ("का", "कि"),
    ],
)
def test_a_pattern_does_not_match_more_than_it_says(pattern: str, text: str) -> None:
    assert not matches(pattern, text)


def test_on_first_contact_the_customer_is_greeted_and_offered_the_menu() -> None:
    assert _asked("buenas", met=False) == Answer(f"Hi!\n\n{MENU}", "greeting")
    assert decide(SHOP, [], 1).outcome == "greeting"


def test_without_a_menu_the_greeting_stands_alone_and_then_comes_the_fallback() -> None:
    bare = _with(menu=())
    assert _asked("buenas", settings=bare, met=False) == Answer("Hi!", "greeting")
    assert _asked("buenas", settings=bare) == Answer("Later.", "fallback")


def test_a_rule_answers_also_on_first_contact() -> None:
    assert _asked("¿precio?", met=False) == Answer(PRICES.answer, "rule")


def test_of_two_rules_the_first_one_answers() -> None:
    assert _asked("gracias, y el precio").text == PRICES.answer
    assert _asked("gracias, y el precio", settings=_with(rules=(THANKS, PRICES))).text == THANKS.answer


def test_what_nothing_answers_gets_the_menu_again_without_the_greeting() -> None:
    assert _asked("blah") == Answer(f"Pardon?\n\n{MENU}", "unknown")
    assert _asked("") == Answer(f"Pardon?\n\n{MENU}", "unknown")


@pytest.mark.parametrize(
    "text", ["2", " 2. ", "2)", "(2)", "02", "2\ufe0f\u20e3", "\uff12", "\u0662", "Prices", "¡prices!"]
)
def test_a_menu_line_is_chosen_by_number_or_text_and_answered_by_its_rule(text: str) -> None:
    unruled = _with(rules=(Rule(patterns=("price?*", "prices!"), answer="From 10."),))
    assert _asked(text, settings=unruled).text == "From 10."
    assert _asked(text).text == PRICES.answer


def test_a_menu_line_that_no_rule_answers_is_confirmed_in_the_tenants_words() -> None:
    assert _asked("3") == Answer("Talk to a person, noted.", "menu")
    assert _asked("talk to a person") == Answer("Talk to a person, noted.", "menu")
    assert _asked("3", settings=_with(rules=(EVERYTHING,))) == Answer("Talk to a person, noted.", "menu")


@pytest.mark.parametrize("text", ["0", "4", "1.5", "12345678901234567890", "²³", "1 2"])
def test_a_number_that_is_not_in_the_menu_chooses_nothing(text: str) -> None:
    assert _asked(text).outcome == "unknown"


def test_a_number_means_nothing_to_us_before_we_showed_the_menu() -> None:
    assert _asked("2", met=False).outcome == "greeting"
    assert _asked("Talk to a person", met=False) == Answer("Talk to a person, noted.", "menu")


def test_a_rule_for_a_number_goes_before_the_menu() -> None:
    own = _with(rules=(Rule(patterns=("2",), answer="Two!"),))
    assert _asked("2", settings=own) == Answer("Two!", "rule")


def test_of_several_messages_the_newest_that_a_rule_or_the_menu_answers_decides() -> None:
    assert _asked("horario", "el precio", "bueno").text == PRICES.answer
    assert _asked("el precio", "horario").text == HOURS.answer
    assert _asked("el precio", "3", "eh").text == "Talk to a person, noted."


def test_messages_that_were_answered_before_do_not_count() -> None:
    history = [Turn("user", "el precio"), Turn("assistant", PRICES.answer), Turn("user", "blah")]
    assert decide(SHOP, history, 1).outcome == "unknown"
    assert decide(SHOP, [Turn("user", "el precio"), Turn("user", "blah")], 1).outcome == "greeting"


def test_our_own_messages_are_not_matched() -> None:
    assert decide(SHOP, [Turn("user", "blah"), Turn("assistant", "precio")], 2).outcome == "unknown"


def test_so_much_is_read_and_no_more() -> None:
    assert _asked("precio" + "x" * 5000).outcome == "rule"
    assert _asked("x" * 5000 + "precio").outcome == "unknown"
    assert _asked("precio", *["blah"] * 9).outcome == "rule"
    assert _asked("precio", *["blah"] * 10).outcome == "unknown"


def test_a_rule_for_everything_answers_what_nothing_else_does() -> None:
    settings = _with(rules=(EVERYTHING, PRICES))
    assert _asked("el precio", "bueno", settings=settings).text == PRICES.answer
    assert _asked("bueno", settings=settings) == Answer(EVERYTHING.answer, "rule")
    assert _asked("", settings=settings, met=False) == Answer(EVERYTHING.answer, "rule")


async def test_the_engine_says_what_the_rules_decide() -> None:
    engine = RulesEngine()
    assert await engine.answer(SHOP, [Turn("user", "horario")], 1, "whatsapp") == Answer(HOURS.answer, "rule")
    await engine.close()


def test_the_defaults_greet_and_offer_a_menu_that_leads_somewhere() -> None:
    first = decide(ReplySettings(), [Turn("user", "hola")], 1)
    assert first.text.startswith("Hello!")
    assert "\n1. Opening hours\n" in first.text
    history = [Turn("user", "hola"), Turn("assistant", first.text), Turn("user", "1")]
    assert "Opening hours" in decide(ReplySettings(), history, 1).text


@pytest.mark.parametrize(
    "pattern", ["*a" * 99 + "*b", "*" + "a" * 97 + "b" + "a" * 97 + "*", "a*" * 99 + "b", "*" * 199 + "b"]
)
def test_hostile_patterns_take_no_time(pattern: str) -> None:
    rules = tuple(Rule(patterns=(pattern,) * 100, answer="x") for _ in range(10))
    settings = _with(rules=rules)
    began = time.process_time()
    assert _asked(*["a" * 100_000] * 50, settings=settings).outcome == "unknown"
    assert time.process_time() - began < 5  # the worst of them takes 0.2 s where backtracking would take years


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"greeting": "x" * 1550}, "greeting with menu_prompt and menu is 1"),
        ({"menu_unknown": "x" * 1550}, "menu_unknown with menu_prompt and menu is 1"),
        ({"rules": [{"patterns": ["a"] * 100, "answer": "x"}] * 11}, "rules hold 1100 patterns; at most 1000"),
        ({"rules": [{"patterns": ["a"], "answer": " \n"}]}, "reply.rules.0.answer: Value error, has nothing to read"),
        ({"fallback": "\u200b\u0000"}, "reply.fallback: Value error, has nothing to read"),
        ({"menu": ["Prices", "  "]}, "reply.menu.1: Value error, has nothing to read"),
    ],
)
def test_settings_that_could_not_be_sent_are_refused(wrong: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=r"^channel settings: reply") as refused:
        read_settings({"reply": wrong})
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("two\r\nlines\rthree", "two\nlines\nthree"),
        ("a\x00b\x07c\x1b[0m\x85d", "abc[0md"),
        ("tab\there ", "tab here"),
        ("half an emoji \ud83d", "half an emoji"),
        ("👨‍👩‍👧 ñ é", "👨‍👩‍👧 ñ é"),
        ("x" * LIMIT, "x" * LIMIT),
        ("x" * (LIMIT + 1), "x" * (LIMIT - 1) + "…"),
        ("word " * 400, ("word " * 319).rstrip() + "…"),
        ("x" * 20 + " " + "y" * LIMIT, "x" * 20 + " " + "y" * (LIMIT - 22) + "…"),
        ("\x00\n\t", ""),
    ],
)
def test_an_answer_leaves_as_plain_text_of_bounded_length(text: str, sent: str) -> None:
    assert plain(text) == sent
    assert len(plain(text)) <= LIMIT


_ANY = st.text(st.characters(), max_size=300)  # surrogates and control characters included
_WILD = st.text(st.sampled_from("ab*? é\u0301\u200bﷺ1"), max_size=60)
_TEXTS = st.one_of(_ANY, _WILD)
_SET = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=150) | st.text(
    "ab*1", min_size=1, max_size=60
)
_TURNS = st.lists(st.builds(Turn, st.sampled_from(["user", "assistant"]), _TEXTS), max_size=12)


@given(pattern=_TEXTS, text=_TEXTS)
def test_any_pattern_on_any_text_is_decided(pattern: str, text: str) -> None:
    assert matches(pattern, text) in (True, False)
    assert len(fold(text)) <= LIMIT


@given(
    pieces=st.lists(st.text("abc", max_size=4), min_size=1, max_size=6),
    between=st.lists(st.text("abc", max_size=4), min_size=5, max_size=5),
)
def test_what_a_pattern_was_made_from_matches_it(pieces: list[str], between: list[str]) -> None:
    text = pieces[0] + "".join(gap + piece for gap, piece in zip(between, pieces[1:], strict=False))
    pattern = "*".join(pieces)
    assert matches(pattern, text) or not pattern


@given(
    history=_TURNS,
    new=st.integers(-1, 20),
    patterns=st.lists(_SET, min_size=1, max_size=4),
    texts=st.lists(_SET, min_size=5, max_size=5),
    menu=st.lists(_SET, max_size=4),
)
def test_any_conversation_with_any_settings_gets_one_answer_that_can_be_sent(
    history: list[Turn], new: int, patterns: list[str], texts: list[str], menu: list[str]
) -> None:
    answer, greeting, chosen, unknown, fallback = (f"{text}a" for text in texts)
    settings = ReplySettings(
        rules=(Rule(patterns=tuple(patterns), answer=answer),),
        greeting=greeting,
        menu=tuple(f"{line}a" for line in menu),
        menu_chosen=chosen + "{choice}" * 100,
        menu_unknown=unknown,
        fallback=fallback,
    )
    said = decide(settings, history, new)
    assert 0 < len(said.text) <= LIMIT
    assert "\x00" not in said.text
    said.text.encode()  # no lone surrogates
