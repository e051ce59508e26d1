"""docs/api.md: each snippet runs as it stands there, against the API."""

from pathlib import Path

import pytest

from tests.support import snippets
from tests.support.api import ApiStage
from tests.support.api_conversations import add_conversation

DOCS = Path(__file__).resolve().parents[3] / "docs" / "api.md"
TEXT = DOCS.read_text()
GREETING = "Good morning, Ana."


@pytest.mark.parametrize("language", sorted(snippets.languages(TEXT)))
async def test_each_snippet_runs(api: ApiStage, environment: dict[str, str], tmp_path: Path, language: str) -> None:
    demo = await api.tenant()
    conversation = await add_conversation(api, demo)
    url = f"http://127.0.0.1:{api.port}"
    (tmp_path / ".palomar").mkdir()
    (tmp_path / ".palomar" / "api-key").write_text(f"{demo.key}\n")
    text = "\n".join(snippets.blocks(TEXT, language)).replace("http://127.0.0.1:8081", url)
    try:
        ran = await snippets.run(language, text, tmp_path, {**environment, "API": url, "KEY": demo.key})
    except LookupError as missing:
        pytest.skip(f"the snippets in {language} were not run: this machine has no {missing}")
    assert ran.code == 0, ran.printed
    contacts = await api.get("/v1/contacts", demo)
    assert "+14155238886" in [one["phoneNumber"] for one in contacts.body["contacts"]]
    messages = await api.get(f"/v1/conversations/{conversation}/messages", demo)
    assert [one["content"] for one in messages.body["messages"] if one["direction"] == "outbound"] == [GREETING]
    assert "Ana" in ran.printed
    assert "queued" in ran.printed


def test_the_page_shows_curl_python_and_typescript() -> None:
    assert snippets.languages(TEXT) == {"sh", "python", "ts"}
