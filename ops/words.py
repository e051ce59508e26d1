"""Finds words that this project no longer uses in identifiers, and names the usual term instead.

`palomar check` runs it; by itself: python -m ops.words.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FOLDERS: Final = ("ingress", "workers", "shared", "schema", "ops", "tests")

SAY: Final = {
    "arrivals": "inbound messages",
    "asking": "prompt",
    "brake": "circuit breaker",
    "buried": "dead-lettered",
    "bury": "dead-letter",
    "errand": "command session",
    "heard": "message received",
    "hearing": "conversation update",
    "hush": "mute",
    "intake": "webhook spec",
    "keeper": "durable queue",
    "ladder": "retry schedule",
    "packing": "attachments",
    "parties": "contacts",
    "rivals": "candidates",
    "rung": "retry step",
    "shelf": "dead letter queue",
    "told": "reported, given, parsed: whatever it is",
    "trouble": "unready reason",
    "undecided": "unknown outcome",
    "wishes": "consent changes",
}
# Names that users' systems read.
STAY: Final = frozenset({("ops/snapshot.py", "trouble")})  # in `palomar status --json`
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def given_up(source: str) -> Iterator[tuple[int, str, str]]:
    """(line, identifier, word) of each identifier that a module defines with one of these words in it."""
    for node in ast.walk(ast.parse(source)):
        for name in _defined(node):
            for word in _WORD.findall(name):
                if word.lower() in SAY:
                    yield getattr(node, "lineno", 0), name, word.lower()


def _defined(node: ast.AST) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return [name]
        case ast.alias(asname=str(name)):
            return [name]
    return []


def check(root: Path) -> list[str]:
    """A line for each such identifier in the modules below `root`'s FOLDERS."""
    return [
        f"{path.relative_to(root)}:{line}: {name}: instead of `{word}` say {SAY[word]}"
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*.py"))
        for line, name, word in given_up(path.read_text())
        if (str(path.relative_to(root)), name) not in STAY
    ]


if __name__ == "__main__":
    found = check(Path(__file__).resolve().parents[1])
    print("\n".join(found))
    sys.exit(bool(found))
