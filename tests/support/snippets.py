"""Runs the snippets of a Markdown file as a reader would: the fenced blocks of a language, one after the other."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A curl that fails where the API refuses, as the reader would see by the answer.
_CURL: Final = '#!/bin/sh\nexec "{curl}" --silent --show-error --fail-with-body "$@"\n'
_PALOMAR: Final = '#!/bin/sh\nPYTHONPATH="{root}" exec "{python}" -m ops "$@"\n'


@dataclass(frozen=True)
class Ran:
    """What came of it."""

    code: int | None
    printed: str


def programs(text: str) -> dict[tuple[str, str], str]:
    """What the blocks of a section and language make together, by the section's heading and the language."""
    found: dict[tuple[str, str], list[str]] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        for language, block in _BLOCK.findall(body):
            found.setdefault((heading, language), []).append(block)
    return {place: "\n".join(blocks) for place, blocks in found.items()}


async def run(language: str, text: str, folder: Path, environment: Mapping[str, str]) -> Ran:
    """Run a program in this folder, where `./palomar` is the checkout's command. Raises LookupError where the machine
    lacks what runs it."""
    name, command = _COMMANDS[language]
    found = shutil.which(command[0])
    curl = shutil.which("curl")
    if found is None or curl is None:
        raise LookupError(command[0] if found is None else "curl")
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    _script(tools / "curl", _CURL.format(curl=curl))
    _script(folder / "palomar", _PALOMAR.format(root=ROOT, python=sys.executable))
    (folder / name).write_text(text)
    child = await asyncio.create_subprocess_exec(
        found, *command[1:], name, cwd=folder, env={**environment, "PATH": f"{tools}:{os.environ['PATH']}"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed, _ = await child.communicate()
    return Ran(child.returncode, printed.decode())


def _script(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o755)


_COMMANDS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "sh": ("snippet.sh", ("bash", "-eu", "-o", "pipefail")),
    "python": ("snippet.py", (sys.executable,)),
    "ts": ("snippet.mjs", ("node",)),  # it holds no types, so that each Node runs it
}
