"""The rules engine: the tenant's patterns → the tenant's answers, else a greeting and a menu. `decide` does no I/O.

Texts are compared without case, accents, width, invisible characters, and the blanks and punctuation around them.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import ClassVar, Self

from shared.bot.base import Answer, Turn, plain, unanswered
from shared.domain import text_folding
from shared.domain.channels import ReplySettings, Rule
from shared.domain.model import ChannelKind
from shared.domain.text_folding import bare
from shared.settings import Settings

_READ = 1600  # characters of a message that are matched, before and after folding, which may lengthen a text
_NEWEST = 10  # unanswered messages that are matched; with _READ and MOST_PATTERNS this bounds the work of one answer
_STAR = "*"


class RulesEngine:
    """The engine that answers by `decide`."""

    waits: ClassVar[bool] = False

    @classmethod
    def of(cls, _: Settings) -> Self:
        return cls()

    async def answer(self, settings: ReplySettings, history: Sequence[Turn], new: int, kind: ChannelKind) -> Answer:
        return decide(settings, history, new)

    async def close(self) -> None:
        """Nothing is open."""


def decide(settings: ReplySettings, history: Sequence[Turn], new: int) -> Answer:
    """The answer to the last `new` turns of `history` (oldest first).

    The newest message that matches a rule, or chooses from the menu, decides; then a rule that matches everything
    (`*`); then, if we never wrote to this customer, the greeting with the menu; else the menu again.
    """
    texts = unanswered(history, new)[:_NEWEST]
    met = any(turn.role == "assistant" for turn in history)
    for text in texts:
        if rule := _rule_for(text, settings.rules):
            return Answer(plain(rule.answer), "rule")
        if line := _chosen(text, settings.menu, numbered=met):
            return _menu_answer(line, settings)
    if rule := next((rule for rule in settings.rules if any(map(_answers_all, rule.patterns))), None):
        return Answer(plain(rule.answer), "rule")
    if not met:
        return Answer(plain(settings.with_menu(settings.greeting)), "greeting")
    if not settings.menu:
        return Answer(plain(settings.fallback), "fallback")
    return Answer(plain(settings.with_menu(settings.menu_unknown)), "unknown")


def matches(pattern: str, text: str) -> bool:
    """Whether `pattern` matches the whole `text`; `*` stands for any text, or none.

    Each piece between two stars is searched once, after the one before it, so no pattern takes longer than one search
    for each of its pieces. With stars, punctuation around the text may be part of the match.
    """
    pieces = _pieces(pattern)
    return any(_fits(pieces, form) for form in _forms(text))


def _rule_for(text: str, rules: Iterable[Rule]) -> Rule | None:
    """The first rule that matches this message, without those that match everything."""
    forms = _forms(text)
    for rule in rules:
        for pattern in rule.patterns:
            if not _answers_all(pattern) and any(_fits(_pieces(pattern), form) for form in forms):
                return rule
    return None


def _chosen(text: str, menu: Sequence[str], *, numbered: bool) -> str | None:
    """The line of the menu that this message chooses: by its text or, once the customer has seen numbers, by its
    number."""
    choice = bare(fold(text))
    if numbered and choice.isdecimal() and len(choice) <= 2 and 1 <= int(choice) <= len(menu):
        return menu[int(choice) - 1]
    return next((line for line in menu if choice and bare(fold(line)) == choice), None)


def _menu_answer(line: str, settings: ReplySettings) -> Answer:
    if rule := _rule_for(line, settings.rules):
        return Answer(plain(rule.answer), "menu")
    return Answer(plain(settings.menu_chosen.replace("{choice}", line)), "menu")


def fold(text: str) -> str:
    """`text` for comparison, no more than _READ characters of it."""
    return text_folding.fold(text, _READ)


def _forms(text: str) -> tuple[str, ...]:
    """The forms in which a message is matched: bare, and with the punctuation around it where that differs."""
    folded = fold(text)
    inner = bare(folded)
    return (inner,) if inner == folded else (inner, folded)


@lru_cache(maxsize=4 * 1024)
def _pieces(pattern: str) -> tuple[str, ...]:
    """A folded pattern split at its stars; without stars it is one piece. The first and last piece anchor at the
    ends."""
    return tuple(bare(fold(pattern), keep=_STAR).split(_STAR))


def _answers_all(pattern: str) -> bool:
    pieces = _pieces(pattern)
    return len(pieces) > 1 and not any(pieces)


def _fits(pieces: tuple[str, ...], text: str) -> bool:
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return bool(first) and text == first
    position, end = len(first), len(text) - len(last)
    if position > end or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in pieces[1:-1]:
        found = text.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True
