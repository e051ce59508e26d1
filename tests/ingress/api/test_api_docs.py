"""docs/api.md: each snippet runs as it stands there, against the API."""

from pathlib import Path

import pytest

from tests.support import snippets
from tests.support.api import ApiStage, Tenant
from tests.support.api_conversations import add_conversation

DOCS = Path(__file__).resolve().parents[3] / "docs" / "api.md"
FIRST = "From a key to a sent message"
GREETING = "Good morning, Ana."
PROGRAMS = snippets.programs(DOCS.read_text())
# What imports a package of npm is compiled and run by the tests of tRPC, which have the packages.
OURS = sorted(place for place, text in PROGRAMS.items() if "@trpc/" not in text)


@pytest.mark.parametrize(("section", "language"), OURS, ids=["-".join(place).replace(" ", "_") for place in OURS])
async def test_each_snippet_runs(
    api: ApiStage, environment: dict[str, str], tmp_path: Path, section: str, language: str
) -> None:
    demo = await api.tenant()
    conversation = await add_conversation(api, demo)
    url = f"http://127.0.0.1:{api.port}"
    (tmp_path / ".palomar").mkdir()
    (tmp_path / ".palomar" / "api-key").write_text(f"{demo.key}\n")
    text = PROGRAMS[section, language].replace("http://127.0.0.1:8081", url)
    variables = {**environment, "API": url, "KEY": demo.key, "ID": str(conversation)}
    try:
        ran = await snippets.run(language, text, tmp_path, variables)
    except LookupError as missing:
        pytest.skip(f"{section}, {language}: not run, for this machine has no {missing}")
    assert ran.code == 0, ran.printed
    if section == FIRST:
        assert "Ana" in ran.printed
        assert "queued" in ran.printed
        await assert_created_and_sent(api, demo, str(conversation))


async def assert_created_and_sent(api: ApiStage, demo: Tenant, conversation: str) -> None:
    contacts = await api.get("/v1/contacts", demo)
    assert "+14155238886" in [one["phoneNumber"] for one in contacts.body["contacts"]]
    messages = await api.get(f"/v1/conversations/{conversation}/messages", demo)
    assert [one["content"] for one in messages.body["messages"] if one["direction"] == "outbound"] == [GREETING]


def test_the_first_calls_are_shown_in_curl_python_and_typescript() -> None:
    assert {language for section, language in PROGRAMS if section == FIRST} == {"sh", "python", "ts"}
