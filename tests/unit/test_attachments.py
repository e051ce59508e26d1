"""The files that a source's message names, in whatever place its system put them."""

import pytest

from ops.imports.attachments import MOST, attachments

URL = "https://files.example/a.jpg"


@pytest.mark.parametrize(
    "holder",
    [
        {"media_url": URL},
        {"MediaUrl0": URL},
        {"mediaUrls": [URL]},
        {"attachments": [{"url": URL}]},
        {"attachments": f'[{{"url": "{URL}"}}]'},
        {"media": {"link": URL}},
        {"image": {"href": URL, "caption": "Hola"}},
        {"file_url": f" {URL} "},
        {"media": {"files": None, "url": URL}, "media_url": URL},
    ],
)
def test_a_file_is_found_where_systems_put_it_and_once(holder: dict[str, object]) -> None:
    assert attachments(holder) == [{"url": URL}]


def test_what_is_said_of_a_file_is_kept() -> None:
    file = {"fileUrl": URL, "mimeType": "image/jpeg", "fileName": "a.jpg", "size": 7}
    assert attachments({"attachment": file}) == [{"url": URL, "mime_type": "image/jpeg", "filename": "a.jpg"}]


@pytest.mark.parametrize(
    "holder",
    [
        {"url": URL},  # a link in a text is no file
        {"media_url": "ftp://files.example/a.jpg"},
        {"media_url": "https://files.example/" + "a" * 3000},
        {"media_url": None, "attachments": "[broken"},
        {"attachments": [[[[[URL]]]]]},
        {"media_url": "two https://words"},
    ],
)
def test_what_is_no_file_is_none(holder: dict[str, object]) -> None:
    assert attachments(holder) == []


def test_columns_come_before_metadata_and_many_are_cut() -> None:
    others = [f"https://files.example/{n}" for n in range(50)]
    found = attachments({"media_url": URL}, {"attachments": others})
    assert (found[0], len(found)) == ({"url": URL}, MOST)
