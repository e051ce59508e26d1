"""Removes reasoning, tool calls and marks of the chat template from a model's output, before a customer sees it. No
I/O.

A server should remove these, but many don't for a model that they don't know. The marks are those of models and servers
in use: `<think>` (DeepSeek, Qwen), `[THINK]` (Mistral), `◁think▷` (Kimi), `<|channel|>` (gpt-oss),
`<|START_THINKING|>` (Cohere), `<|begin_of_thought|>` and the like.
"""

import re
from typing import Final

_NAMES: Final = (
    "think|thinking|thought|thoughts|reason|reasoning|reflection|analysis|scratchpad|inner_monologue|internal|"
    "seed:think|tool_call|tool_calls|tool_use|tool_response|tool_result|function_call|function_calls|function_results|"
    "invoke"
)
_AROUND: Final = "answer|response|final|final_answer|final_response|output|reply"  # around text for the customer
# Each mark either begins or ends hidden text. Attributes are short, so that no prose is taken for a tag.
_HIDING: Final = re.compile(
    rf"<(?P<end>/)?\s*(?:antml:)?(?:{_NAMES})(?:[\s=][^<>]{{0,200}})?>"
    rf"|\[(?P<end2>/)?(?:{_NAMES})\]"
    rf"|◁(?P<end3>/)?(?:{_NAMES})▷"
    r"|<\|(?:start|(?P<end4>end))_(?:thinking|action|tool_result)\|>"
    r"|<\|(?:begin|(?P<end5>end))_of_thought\|>"
    r"|<\|channel>|<channel\|>(?P<end6>)",
    re.IGNORECASE,
)
_ENDS: Final = ("end", "end2", "end3", "end4", "end5", "end6")
_FENCED: Final = re.compile(r"^(```+|~~~+)[ \t]*(?:thinking|think|thoughts?|reasoning|tool_call)[ \t]*\n.*?(?:^\1|\Z)",
                            re.IGNORECASE | re.MULTILINE | re.DOTALL)  # fmt: skip
# gpt-oss: `<|channel|>analysis<|message|>…<|end|>`; only the channel `final` is for the customer.
_CHANNEL: Final = re.compile(
    r"<\|channel\|>[ \t]*([a-z_]*)[^<\n]{0,200}(?:<\|constrain\|>[^<\n]{0,40})?(?:<\|message\|>)?", re.IGNORECASE
)
_BARE_CHANNELS: Final = re.compile(
    r"\s*analysis.*assistantfinal", re.DOTALL
)  # the same, where a server has removed the marks
_TURN_ENDS: Final = re.compile(
    r"<\|(?:im_end|end|return|call|eot_id|eom_id|eot|endoftext|end_of_text|end_of_turn|user|observation|END_RESPONSE|"
    r"end_of_solution|start|end_of_turn_token)\|>"
    r"|<end_of_turn>|</s>|<eos>|<\uff5cend▁of▁sentence\uff5c>|<\uff5cUser\uff5c>|\[INST\]",
    re.IGNORECASE,
)
_ROLE: Final = re.compile(
    r"(?:<\|im_start\|>|<\|start_header_id\|>|<\|start\|>|<start_of_turn>)[ \t]*(?:assistant|model)?[ \t]*\n?",
    re.IGNORECASE,
)
_MARK: Final = re.compile(
    rf"<\|[^<>|\n]{{0,40}}\|?>|<[^<>|\n]{{1,20}}\|>|<\uff5c[^<>\uff5c\n]{{0,40}}\uff5c>|<start_of_turn>|<bos>|<s>|\[/INST\]"
    rf"|</?(?:{_AROUND})>|<unused[0-9]+>",
    re.IGNORECASE,
)
# The beginning of a mark that the token limit has cut off.
_CUT: Final = re.compile(r"<(?:[|\uff5c][^<>|\uff5c\n]{0,40}|/?(?P<name>[a-z_:]{0,20}))\Z", re.IGNORECASE)


def visible_text(content: str) -> str:
    """The part of a model's output for the customer; empty where all of it is reasoning.

    Text between such marks is removed even where the mark is quoted or in a code fence: to lose a piece of an answer
    about markup does less harm.
    """
    shown = _without_hidden(_FENCED.sub("", _of_final_channel(content)))
    return _MARK.sub("", _first_turn(_uncut(shown))).strip()


def _of_final_channel(content: str) -> str:
    """The text of the last channel `final`; all of it where no channels are named."""
    marks = list(_CHANNEL.finditer(content))
    if not marks:
        bare = _BARE_CHANNELS.match(content)
        return content[bare.end() :] if bare else content
    found = ""
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        if mark[1].lower() == "final":
            found = content[mark.end() : after.start() if after else len(content)]
    return found


def _without_hidden(content: str) -> str:
    """`content` without the text between marks. An opening mark that is never closed hides the rest; a closing mark
    that was never opened (many chat templates write the opening one themselves) hides all before it."""
    shown: list[str] = []
    hidden, at = False, 0
    for mark in _HIDING.finditer(content):
        ends = any(mark[name] is not None for name in _ENDS)
        if not hidden:
            if ends:
                shown.clear()
            else:
                shown.append(content[at : mark.start()])
        hidden, at = not ends, mark.end()
    return "".join(shown) + ("" if hidden else content[at:])


def _first_turn(content: str) -> str:
    """`content` up to the end of the model's turn: some models go on with an invented turn of the customer."""
    text = _ROLE.sub("", content, count=1) if _ROLE.match(content.lstrip()) else content
    for end in _TURN_ENDS.finditer(text):
        if _MARK.sub("", text[: end.start()]).strip():
            return text[: end.start()]
    return text


def _uncut(content: str) -> str:
    """`content` without the beginning of a mark at its end."""
    cut = _CUT.search(content)
    if cut is None:
        return content
    name = cut["name"]
    begins = name is None or any(one.startswith(name.lower()) for one in f"{_NAMES}|{_AROUND}".split("|"))
    return content[: cut.start()] if begins else content
