"""Lines of CSV: RFC 4180, and nothing that a spreadsheet runs."""

import csv
from io import StringIO
from typing import Any

import pytest

from ingress.api.exports import csv_line


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("hello", "hello"),
        (None, ""),
        (7, "7"),
        ({"a": [1]}, '{"a":[1]}'),
        ('say "hi", twice\nor so', 'say "hi", twice\nor so'),
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+34600000001", "'+34600000001"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\uff1d1", "'\uff1d1"),
        (-1, "'-1"),
        ("a=1", "a=1"),
        (" =1", " =1"),
    ],
)
def test_a_cell_is_text_and_no_formula(value: Any, cell: str) -> None:
    line = csv_line([value, "next"])
    assert line.endswith(b"\r\n")
    assert list(csv.reader(StringIO(line.decode(), newline=""))) == [[cell, "next"]]
