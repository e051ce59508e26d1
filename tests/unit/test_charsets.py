"""Every name that the web knows a charset by is read, and a text under a small charset's name by the wider one."""

import pytest

from shared.providers.email.charsets import codecs_of


@pytest.mark.parametrize(
    ("charset", "codecs"),
    [
        ("ISO-8859-1", ["cp1252", "iso8859-1"]),
        ("latin1", ["cp1252", "iso8859-1"]),
        ("iso88591", ["cp1252", "iso8859-1"]),
        (' "iso-8859-9" ', ["cp1254", "iso8859-9"]),
        ("us-ascii", ["ascii"]),
        ("UTF8", ["utf-8"]),
        ("GB2312", ["gb18030", "gb2312"]),
        ("x-gbk", ["gb18030"]),
        ("big5", ["big5hkscs", "big5"]),
        ("ks_c_5601-1987", ["cp949", "euc_kr"]),
        ("windows-949", ["cp949"]),
        ("x-sjis", ["cp932"]),
        ("tis-620", ["cp874", "tis-620"]),
        ("dos-874", ["cp874"]),
        ("logical", ["iso8859-8"]),
        ("x-mac-ukrainian", ["mac-cyrillic"]),
        ("x-cp1251", ["cp1251"]),
        ("koi8-ru", ["koi8-u"]),
        ("iso-2022-jp", ["iso2022_jp"]),
        ("hex", []),
        ("idna", []),
        ("no-such-charset", []),
        ("", []),
        ("x" * 1000, []),
    ],
)
def test_a_charset_is_read_by_the_codec_that_holds_what_is_written_under_its_name(
    charset: str, codecs: list[str]
) -> None:
    assert list(codecs_of(charset)) == codecs
