"""The limits that docs/api.md names are those of the code."""

import re
from pathlib import Path

import pytest

from ingress.api import caller, files, front, models, process
from ingress.api.trpc import connections, requests, sockets, transport
from shared.settings import Settings

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text()
UNITS = {"KiB": 1024, "MiB": 1024**2}
TABLE = DOCS.partition("## Limits")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| (.+?) \| (.+?) \| .+? \| (.*?) ?\|$", TABLE, re.MULTILINE)
WITHOUT_A_SETTING = {
    "a request's first line, and each header": [process.LONGEST_LINE],
    "rows of a page": [models.MOST_ROWS],
    "calls of a batch, messages of a frame": [requests.MOST_CALLS],
    "answers to a batch": [transport.MOST_ANSWERED],
    "exports of a tenant under way": [front.EXPORTS_OF_A_TENANT, front.LONGEST_EXPORT],
    "downloads of files of a tenant under way": [files.OF_A_TENANT, files.LONGEST],
    "sockets and event streams of a tenant at `/trpc`": [connections.MOST_OF_ONE],
    "subscriptions of a socket there": [sockets.MOST_SUBSCRIPTIONS],
    "wrong keys from an address": [caller.GUESSES, caller.GUESS_WINDOW],
}


def numbers(text: str) -> list[float]:
    """The figures of a text in bytes and seconds."""
    return [int(number) * UNITS.get(unit, 1) for number, unit in re.findall(r"(\d+)(?: (KiB|MiB))?", text)]


@pytest.mark.parametrize(("what", "most", "settings"), ROWS[2:], ids=[row[0] for row in ROWS[2:]])
def test_a_limit_of_the_table(what: str, most: str, settings: str) -> None:
    names = re.findall(r"`PALOMAR_(\w+)`", settings)
    defaults = [Settings.model_fields[name.lower()].default for name in names]
    assert numbers(most) == (defaults or WITHOUT_A_SETTING[what])


def test_a_setting_and_its_default_in_the_text() -> None:
    named = re.findall(r"`PALOMAR_(\w+)` \((\d+)\)", DOCS)
    assert named
    for name, default in named:
        assert Settings.model_fields[name.lower()].default == float(default), name
    for name in re.findall(r"`PALOMAR_(\w+)`", DOCS):
        assert name.lower() in Settings.model_fields, name
    assert sockets.LONGEST_FRAME == 256 * 1024
