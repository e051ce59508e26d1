"""A model writes Markdown; a customer sees what their channel shows."""

import time

import pytest

from shared.bot.markdown import in_form_of
from shared.domain.channels import LIMIT


@pytest.mark.parametrize(
    ("markdown", "whatsapp", "plain"),
    [
        ("hola", "hola", "hola"),
        ("**Abierto** de 9 a 5", "*Abierto* de 9 a 5", "Abierto de 9 a 5"),
        ("__Abierto__ y **_hoy_**", "*Abierto* y *_hoy_*", "Abierto y hoy"),
        ("**uno** y *dos* y ***tres***", "*uno* y _dos_ y _*tres*_", "uno y dos y tres"),
        ("*as WhatsApp writes it* and _so_", "*as WhatsApp writes it* and _so_", "as WhatsApp writes it and so"),
        ("~~10~~ 8", "~10~ 8", "10 8"),
        ("# Precios\n\ndesde 5", "*Precios*\n\ndesde 5", "Precios\n\ndesde 5"),
        ("## **Precios**", "*Precios*", "Precios"),
        ("Hay:\n- pan\n* leche **fresca**\n  - entera", "Hay:\n- pan\n- leche *fresca*\n  - entera",
         "Hay:\n- pan\n- leche fresca\n  - entera"),
        ("3. uno\n4. dos\n\ny", "3. uno\n4. dos\n\ny", "3. uno\n4. dos\n\ny"),
        ("1) uno\n2) dos", "1) uno\n2) dos", "1) uno\n2) dos"),
        ("[la web](https://shop.example/a?b=c&d)", "la web (https://shop.example/a?b=c&d)",
         "la web (https://shop.example/a?b=c&d)"),
        ("[https://shop.example](https://shop.example) <https://b.example>", "https://shop.example https://b.example",
         "https://shop.example https://b.example"),
        ("[a@b.example](mailto:a@b.example), [llama](tel:+34600)", "a@b.example, llama (+34600)",
         "a@b.example, llama (+34600)"),
        ("![plano](https://shop.example/m.png)", "plano (https://shop.example/m.png)",
         "plano (https://shop.example/m.png)"),
        ("usa `PIN`:\n\n```sh\nls *a*\n```", "usa `PIN`:\n\n```ls *a*```", "usa PIN:\n\nls *a*"),
        ("```\nsin cerrar", "```sin cerrar```", "sin cerrar"),
        ("> cita\n> más", "> cita\n> más", "> cita\n> más"),
        ("| día | hora |\n|---|---|\n| **lun** | 9<br>17 |", "día | hora\n*lun* | 9 17", "día | hora\nlun | 9 17"),
        ("uno<br>dos\ntres", "uno\ndos\ntres", "uno\ndos\ntres"),
        ("Total\n---\n5", "Total\n5", "Total\n5"),
        ("**cortado por el lí", "cortado por el lí", "cortado por el lí"),
        ("\\*no\\* cuesta \\$5 &amp; ya", "*no* cuesta $5 & ya", "*no* cuesta $5 & ya"),
        ("2*3*4 = 24, 2 * 3, snake_case_name, #5, 5 > 3", "2*3*4 = 24, 2 * 3, snake_case_name, #5, 5 > 3",
         "2*3*4 = 24, 2 * 3, snake_case_name, #5, 5 > 3"),
        ("    con sangría\n\n[1]: no", "con sangría\n\n[1]: no", "con sangría\n\n[1]: no"),
        ("[x](javascript:alert(1))", "[x](javascript:alert(1))", "[x](javascript:alert(1))"),
        ("***\n\n---", "", ""),
    ],
)  # fmt: skip
def test_markdown_becomes_the_channels_own_form(markdown: str, whatsapp: str, plain: str) -> None:
    assert in_form_of("whatsapp", markdown) == whatsapp
    assert (in_form_of("sms", markdown), in_form_of("email", markdown)) == (plain, plain)


@pytest.mark.parametrize(
    "piece", ["[", "![", "*a_ ", "**a ", "> ", "- ", "`", "[a](b", "_a__b", "<a", "|a", "\n1. ", "[a]("]
)
def test_no_text_however_broken_holds_up_the_others(piece: str) -> None:
    text = piece * (1024 * 1024 // len(piece))
    began = time.process_time()
    assert len(in_form_of("whatsapp", text)) < 20 * LIMIT
    assert time.process_time() - began < 2
