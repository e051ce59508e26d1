"""Converts a model's Markdown into the channel's own form: WhatsApp's `*bold*`, or plain text. No I/O.

https://faq.whatsapp.com/539178204879377 (formatting): *bold*, _italic_, ~struck~, `code`, lists with `-` and numbers.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from shared.domain.model import ChannelKind

LONGEST: Final = 4000  # characters that are read; channels take fewer, and broken Markdown costs time by its length
# HTML stays text. Rules are off that would change text not meant as Markdown: text over a line of dashes is not a
# heading, indented text not code, `[a]: b` not a definition.
_PARSER: Final = (
    MarkdownIt("commonmark", {"html": False, "maxNesting": 10})
    .enable(["table", "strikethrough"])
    .disable(["lheading", "code", "reference", "html_block"])
)
_BELOW, _APART = "\n", "\n\n"
_BREAK: Final = re.compile(r"<br\s*/?>", re.IGNORECASE)
_LEFT_OVER: Final = re.compile(r"(?<![\w*])\*\*(?=\w)|(?<=\w)\*\*(?![\w*])")  # of bold text that was cut off
_SCHEME: Final = re.compile(r"(?:mailto|tel):", re.IGNORECASE)


def in_form_of(kind: ChannelKind, text: str) -> str:
    """`text`, read as Markdown, in the form of the customer's channel; at most LONGEST characters of it are read."""
    head = text[:LONGEST]
    return _Writer(head, marked=kind == "whatsapp").written()


class _Writer:
    """Converts one text. `marked`: with WhatsApp's marks, else without any."""

    def __init__(self, source: str, *, marked: bool) -> None:
        self._lines = source.splitlines()
        self._root = SyntaxTreeNode(_PARSER.parse(source))
        self._marked = marked
        # In a text with `**` for bold, `*` means italic. Without, the model may have been asked to write as WhatsApp
        # does.
        self._star = "_" if "**" in source else "*"

    def written(self) -> str:
        lines = self._joined(self._root.children).split("\n")
        return "\n".join(line.rstrip() for line in lines).strip()

    def _joined(self, blocks: Sequence[SyntaxTreeNode]) -> str:
        """The blocks below each other, with a blank line where the source has one."""
        written = ""
        for block in blocks:
            part = self._block(block)
            if not part:
                continue
            begins = block.map[0] if block.map else 0
            apart = 0 < begins <= len(self._lines) and not self._lines[begins - 1].strip("> \t")
            written += f"{'' if not written else _APART if apart else _BELOW}{part}"
        return written

    def _block(self, node: SyntaxTreeNode) -> str:
        match node.type:
            case "heading":
                title = self._inline(_inlines(node), bold=False)
                return f"*{title}*" if self._marked and title else title
            case "fence":
                code = node.content.rstrip()
                return f"```{code}```" if self._marked and code else code
            case "bullet_list" | "ordered_list":
                return self._items(node)
            case "blockquote":
                return "\n".join(f"> {line}" for line in self._joined(node.children).split("\n"))
            case "table":
                return "\n".join(filter(None, map(self._row, _rows(node))))
            case "hr":
                return ""
        return self._inline(_inlines(node)) if _inlines(node) else node.content

    def _items(self, node: SyntaxTreeNode) -> str:
        written = []
        for item in node.children:
            marker = f"{item.info}{item.markup} " if node.type == "ordered_list" else "- "
            below = f"\n{' ' * len(marker)}"
            written.append(marker + self._joined(item.children).replace("\n", below))
        return "\n".join(written)

    def _row(self, row: SyntaxTreeNode) -> str:
        cells = (" ".join(self._inline(_inlines(cell)).split()) for cell in row.children)
        return " | ".join(filter(None, cells))

    def _inline(self, nodes: Sequence[SyntaxTreeNode], *, bold: bool = True) -> str:
        """Text within a block. `bold` False: it is within bold text already."""
        written = ""
        for node, following in zip(nodes, [*nodes[1:], None], strict=True):
            match node.type:
                case "text":
                    written += _LEFT_OVER.sub("", _BREAK.sub("\n", node.content))
                case "softbreak" | "hardbreak":
                    written += "\n"
                case "code_inline":
                    written += f"`{node.content}`" if self._marked else node.content
                case "link":
                    written += _link(self._inline(node.children, bold=bold), str(node.attrs.get("href", "")))
                case "image":
                    written += _link(node.content, str(node.attrs.get("src", "")))
                case "strong" | "em" | "s":
                    inner = self._inline(node.children, bold=bold and node.type != "strong")
                    mark = self._mark(node, bold=bold)
                    if _within_a_word(written, following):  # `2*3*4` means no emphasis
                        mark = node.markup
                    written += f"{mark}{inner}{mark}" if inner.strip() else inner
                case _:
                    written += node.content
        return written

    def _mark(self, node: SyntaxTreeNode, *, bold: bool) -> str:
        if not self._marked:
            return ""
        match node.type:
            case "strong":
                return "*" if bold else ""
            case "s":
                return "~"
        return self._star if node.markup == "*" else "_"


def _inlines(node: SyntaxTreeNode) -> Sequence[SyntaxTreeNode]:
    """The inline nodes of a paragraph, a heading or a cell."""
    return [part for child in node.children if child.type == "inline" for part in child.children]


def _rows(table: SyntaxTreeNode) -> Iterator[SyntaxTreeNode]:
    return (row for part in table.children for row in part.children)


def _within_a_word(before: str, following: SyntaxTreeNode | None) -> bool:
    after = following.content[:1] if following is not None and following.type == "text" else ""
    return before[-1:].isalnum() and after.isalnum()


def _link(text: str, url: str) -> str:
    """`text (url)`; only one of them where they are the same, or the text is the address of a mailto: or tel: link."""
    address = _SCHEME.sub("", url)
    if not text or unquote(address) == text or address == text:
        return text or url
    return f"{text} ({address})" if address else text
