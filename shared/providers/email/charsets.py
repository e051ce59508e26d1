"""Finds the codec for a charset's name, as browsers and mail programs do. No I/O.

The names are those of https://encoding.spec.whatwg.org/#names-and-labels. Python knows most of them. The tables hold
the others, and the charsets in whose name mail programs write a larger charset.
"""

import codecs
from collections.abc import Iterator
from typing import Final

_LONGEST = 40  # characters of a charset's name
# Codecs that are no charset of a text, or whose time grows faster than the text.
_NO_CHARSETS: Final = frozenset(("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"))
# By Python's name of a charset: the larger charset that mail programs write in its name. ASCII is not among them: a
# text that is wrongly called ASCII is most often UTF-8.
_WIDER: Final = {
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
}
_NAMES: Final = {
    "utf-8": ("unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "x-unicode20utf8"),
    "iso8859-6": ("csiso88596e", "csiso88596i", "iso-8859-6-e", "iso-8859-6-i"),
    "iso8859-7": ("sun_eu_greek",),
    "iso8859-8": ("csiso88598e", "csiso88598i", "iso-8859-8-e", "iso-8859-8-i", "logical", "visual"),
    "iso8859-15": ("csisolatin9",),
    "koi8-r": ("koi", "koi8"),
    "koi8-u": ("koi8-ru",),
    "mac-roman": ("csmacintosh", "mac", "x-mac-roman"),
    "mac-cyrillic": ("x-mac-cyrillic", "x-mac-ukrainian"),
    "cp874": ("dos-874", "windows-874"),
    "gb18030": ("csgb2312", "gb_2312", "gb_2312-80", "x-gbk"),
    "big5hkscs": ("cn-big5", "x-x-big5"),
    "euc_jp": ("cseucpkdfmtjapanese", "x-euc-jp"),
    "cp932": ("windows-31j", "x-sjis"),
    "cp949": ("cseuckr", "csksc56011987", "iso-ir-149", "ks_c_5601-1989", "ksc_5601", "windows-949"),
    "utf-16-be": ("unicodefffe",),
    "utf-16-le": ("csunicode", "iso-10646-ucs-2", "ucs-2", "unicode", "unicodefeff"),
}
_KNOWN: Final = {
    **{label: codec for codec, labels in _NAMES.items() for label in labels},
    **{f"iso8859{part}": f"iso8859-{part}" for part in range(1, 16) if part != 12},  # there is no part 12
    **{f"x-cp{page}": f"cp{page}" for page in range(1250, 1259)},
}


def codecs_of(charset: str) -> Iterator[str]:
    """Python's names of the codecs for this charset, the larger one first; none for an unknown charset."""
    label = charset.strip().strip("\"'").lower()[:_LONGEST]
    try:
        name = codecs.lookup(_KNOWN.get(label) or label or "?").name
        "0".encode(name)
    except (LookupError, ValueError):  # unknown, or no charset of a text (`hex`)
        return
    if name in _NO_CHARSETS:
        return
    if name in _WIDER:
        yield _WIDER[name]
    yield name
