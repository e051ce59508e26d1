"""What a model thinks, calls or marks never leaves, whatever the server left in its output."""

import time

import pytest

from shared.bot.hidden_reasoning import visible_text


@pytest.mark.parametrize(
    "content",
    [
        "Hola",
        "<think>secret</think>Hola",
        "secret</think>\n\nHola",
        "<thinking>\nsecret\n</thinking>\nHola",
        "<THINKING type='x'>secret</THINKING>Hola",
        "Hola <thinking>secret</thinking>",
        "Hola\n<reasoning>secret, and then the limit came",
        "<think>secret <think> of tags </think> secret</think>Hola",
        "<think>```html\n</think>\n```\nsecret</think>Hola",
        "<think>secret</thinking>Hola",
        "```thinking\nsecret\n```\nHola",
        "[THINK]secret[/THINK]Hola",
        "◁think▷secret◁/think▷Hola",
        "<seed:think>secret</seed:think>Hola",
        "<|START_THINKING|>secret<|END_THINKING|><|START_RESPONSE|>Hola<|END_RESPONSE|>",
        "<|begin_of_thought|>secret<|end_of_thought|><|begin_of_solution|>Hola<|end_of_solution|>",
        "<|channel|>analysis<|message|>secret<|end|><|start|>assistant<|channel|>final<|message|>Hola<|return|>",
        "<|channel|>commentary to=functions.x <|constrain|>json<|message|>{}<|call|><|channel|>final<|message|>Hola",
        "<|channel>thought\nsecret<channel|>Hola",
        "analysisThe user says secret.assistantfinalHola",
        '<tool_call>{"name": "secret"}</tool_call>Hola',
        '<function_calls><invoke name="x">secret</invoke></function_calls>Hola',
        "<answer>Hola</answer>",
        "<|im_start|>assistant\nHola<|im_end|>\n<|im_start|>user\nsecret",
        "<|start_header_id|>assistant<|end_header_id|>\n\nHola<|eot_id|>",
        "<start_of_turn>model\nHola<end_of_turn>\n<start_of_turn>user\nsecret",
        "Hola</s>[INST]secret",
        "Hola<\uff5cend▁of▁sentence\uff5c>",
        "Hola <thin",
        "Hola </",
        "Hola <|chan",
        "<think></think>Hola",
    ],
)
def test_only_what_is_meant_for_the_customer_leaves(content: str) -> None:
    assert visible_text(content) == "Hola"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<think>secret",
        "secret</think>",
        "<thinking>secret</thinking>\n",
        "<|channel|>analysis<|message|>secret",
        "<|channel|>analysis",
        "```think\nsecret",
        "<|im_end|>",
        "<thin",
    ],
)
def test_an_output_that_is_only_thought_is_an_empty_one(content: str) -> None:
    assert visible_text(content) == ""


@pytest.mark.parametrize(
    "content",
    [
        "1 < 2 > 0 y <b>negrita</b>",
        "pesa <kg",
        "I think: it opens at nine. My final answer!",
        "```python\nprint(1)\n```",
        "[think about it](https://shop.example)",
        "analysis: two people",
    ],
)
def test_what_only_looks_like_a_mark_stays(content: str) -> None:
    assert visible_text(content) == content


@pytest.mark.parametrize(
    "piece", ["<think", "<think ", "<|", "``` thinking\n", "<think></think>", "<\uff5c", "[THINK]", "</s>"]
)
def test_a_megabyte_of_marks_costs_little_time(piece: str) -> None:
    began = time.process_time()
    visible_text(piece * (1024 * 1024 // len(piece)))
    assert time.process_time() - began < 5
