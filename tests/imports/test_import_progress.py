"""How far an import is, as a person sees it: bars in a terminal, lines of text in a log."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ops.local.stack import Stack
from tests.imports import layouts
from tests.imports.importing import SourceDatabase, furnish, moved, source_database
from tests.support.commands import ROOT


@pytest.fixture
def source(stack: Stack) -> Iterator[SourceDatabase]:
    with source_database(stack, layouts.KOMMO_GOOD) as made:
        yield made


def test_without_a_terminal_it_says_so_in_lines(environment: dict[str, str], source: SourceDatabase) -> None:
    furnish(environment)
    output = moved(environment, "kommo", "--from", source.url, "--tenant", "Shop", "--batch", "50").splitlines()
    assert output.index("kommo_messages 50 of 440") < output.index("kommo_messages 440 of 440")
    assert "counting kommo_messages 440 of 440" in output


def test_in_a_terminal_there_is_a_bar_for_each_table(environment: dict[str, str], source: SourceDatabase) -> None:
    furnish(environment)
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "ops", "import", "kommo", "--from", source.url, "--tenant", "Shop"],
        cwd=environment["PALOMAR_STATE_DIR"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environment},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the terminal's end
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert done.wait(60) == 0, shown
    text = shown.decode()
    assert "━" in text
    assert "440/440" in text
