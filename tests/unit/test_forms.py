"""A message's form is stored in its row and read again; other content of the row is no form."""

import orjson
import pytest

from shared.domain.message_form import PLAIN, Form, form_of, stored
from shared.domain.model import Button, Interactive, Reaction, Row, Section


@pytest.mark.parametrize(
    "form",
    [
        PLAIN,
        Form(Interactive(buttons=(Button("y", "Sí"),), header="h", footer="f")),
        Form(Interactive(sections=(Section((Row("1", "a", "b"), Row("2", "c")), "s"),), opener="Ver"), reply_to="w"),
        Form(reaction=Reaction("wamid.1", "")),
    ],
)
def test_a_form_lasts(form: Form) -> None:
    assert form_of(orjson.loads(orjson.dumps({"other": 1, **stored(form)}))) == form


def test_a_plain_message_stores_nothing() -> None:
    assert stored(PLAIN) == {}


@pytest.mark.parametrize(
    "metadata", [None, [], "form", {"form": "contact"}, {"form": {"interactive": 5}}, {"form": None}]
)
def test_what_cannot_be_read_asks_for_nothing(metadata: object) -> None:
    assert form_of(metadata) == PLAIN
