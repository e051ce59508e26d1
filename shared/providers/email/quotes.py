"""Finds the new part of a mail: without the mail that it quotes, and without its signature. No I/O; never raises.

The lines that mail programs write above a quotation are known in English, Spanish, Portuguese, German, French and
Italian.
"""

import re
from typing import Final

_SIGNATURE = "-- "  # RFC 3676 §4.3
_LINE_ENDS: Final = re.compile("\r\n|[\r\x85\u2028\u2029]")  # mainframes end a line with U+0085
_TITLES: Final = (
    "original message", "original appointment", "forwarded message",
    "mensaje original", "mensaje reenviado",
    "mensagem original", "mensagem encaminhada",
    "ursprüngliche nachricht", "originalnachricht", "original-nachricht", "weitergeleitete nachricht",
    "message d.origine", "message original", "message transféré", "message initial", "courriel original",
    "messaggio originale", "messaggio inoltrato",
)  # fmt: skip
_ORIGINAL: Final = re.compile(rf"-{{2,}}\s{{0,3}}(?:{'|'.join(_TITLES)})\s{{0,3}}-{{2,}}", re.IGNORECASE)
_VERBS: Final = "wrote|writes|escribi[óo]|escreveu|schrieb|a écrit|ha scritto|scrive"
# `On Monday Ana wrote:`, `Am Montag schrieb Ana:`
_ATTRIBUTION: Final = re.compile(
    rf"(?:on|el|em|am|le|il|in data)\b.{{0,600}}\b(?:{_VERBS})\b.{{0,200}}:", re.IGNORECASE
)
# `Ana <ana@example.com> wrote:`, recognised by an address or a date in it.
_NAMED_FIRST: Final = re.compile(rf".{{0,200}}[@0-9].{{0,200}}\b(?:{_VERBS})\b.{{0,200}}:", re.IGNORECASE)
_ATTRIBUTION_LINES = 3  # over which an attribution may be wrapped
_LONGEST_LINE = 300  # characters of one of them
_FROM: Final = re.compile(r"\*?(?:from|de|von|da)\s?:", re.IGNORECASE)
_SUBJECT: Final = re.compile(r"\*?(?:subject|asunto|assunto|betreff|objet|oggetto)\s?:", re.IGNORECASE)
_BLOCK_LINES = 6  # of the headers that Outlook puts above a quotation
_RULE: Final = re.compile(r"[_\-=]{5,200}")  # the line above those headers
# The signature of a mail program on a phone: `Sent from my iPhone`, or `Get Outlook for iOS<https://…>`. It must name
# a device or a program, because the customer's own last line may begin with the same word.
_OF_PROGRAM: Final = r"(?:yahoo|aol|outlook|proton|mail|e-?mail|correo|courrier)\b.{0,60}"
_ON_A_PHONE: Final = re.compile(
    r"(?:\S{1,20}\s){0,3}Outlook\s(?:for|para|für|pour|per)\s(?:iOS|Android)\b.{0,80}"
    rf"|sent\s(?:from|via)\s(?:my\s.{{1,60}}|{_OF_PROGRAM})"
    rf"|enviado\s(?:desde|do|de)\s(?:mi\s.{{1,60}}|(?:o\s)?meu\s.{{1,60}}|{_OF_PROGRAM})"
    rf"|envoyé\s(?:de|depuis|à\spartir\sde)\s(?:mon\s.{{1,60}}|{_OF_PROGRAM})"
    rf"|inviato\s(?:da|dal)\s(?:mio\s.{{1,60}}|iPhone|iPad|{_OF_PROGRAM})"
    rf"|von\smeine[mr]\s.{{1,60}}\sgesendet|gesendet\s(?:von|mit)\s(?:meine[mr]\s.{{1,60}}|{_OF_PROGRAM})",
    re.IGNORECASE,
)


def unified(text: str) -> str:
    """`text` with every line end as `\\n`."""
    return _LINE_ENDS.sub("\n", text)


def new_part(text: str) -> str:
    """The text without the quoted mail and without the signature; the whole text where nothing would be left.

    An answer written between quoted lines stays whole.
    """
    lines = unified(text).split("\n")
    end = next((at for at, line in enumerate(lines) if line == _SIGNATURE or _begins_original(lines, at)), len(lines))
    end = _before_mark(lines, _before_quote(lines, end))
    new = "\n".join(lines[:end]).strip()
    return new or text.strip()


def _begins_original(lines: list[str], at: int) -> bool:
    line = lines[at].strip()[:120]
    if _ORIGINAL.fullmatch(line):
        return True
    if _RULE.fullmatch(line) and at + 1 < len(lines):
        return bool(_FROM.match(lines[at + 1].strip()[:40])) and _has_subject(lines, at + 1)
    return bool(_FROM.match(line)) and _has_subject(lines, at)


def _has_subject(lines: list[str], at: int) -> bool:
    return any(_SUBJECT.match(one.strip()[:40]) for one in lines[at + 1 : at + _BLOCK_LINES])


def _before_quote(lines: list[str], end: int) -> int:
    """The line at which the quotation at the end begins, with its attribution; `end` where there is none."""
    at = end
    while at > 0 and (lines[at - 1].startswith(">") or not lines[at - 1].strip()):
        at -= 1
    if not any(line.startswith(">") for line in lines[at:end]):
        return end
    for back in range(1, min(_ATTRIBUTION_LINES, at) + 1):
        attribution = " ".join(line.strip()[:_LONGEST_LINE] for line in lines[at - back : at])
        if _ATTRIBUTION.fullmatch(attribution):
            return at - back
    named = at > 0 and _NAMED_FIRST.fullmatch(lines[at - 1].strip()[:_LONGEST_LINE])
    return at - 1 if named else at


def _before_mark(lines: list[str], end: int) -> int:
    """The line at which the signature of a phone's mail program begins; `end` where there is none."""
    at = end
    while at > 0 and not lines[at - 1].strip():
        at -= 1
    return at - 1 if at > 0 and _ON_A_PHONE.fullmatch(lines[at - 1].strip()) else end
