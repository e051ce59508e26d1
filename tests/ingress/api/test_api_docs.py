"""docs/api.md: each snippet runs as it stands there, against the API."""

import asyncio
import re
from pathlib import Path

import orjson
import pytest

from tests.support import node, snippets
from tests.support.api import ApiStage, Tenant
from tests.support.api_conversations import add_conversation

DOCS = Path(__file__).resolve().parents[3] / "docs" / "api.md"
FIRST = "From a key to a sent message"
GREETING = "Good morning, Ana."
PROGRAMS = snippets.programs(DOCS.read_text())
PLACES = sorted(PROGRAMS)
TYPES = re.compile(r"^import type .*\n|<AppRouter>", re.MULTILINE)  # which test_trpc_types.py compiles


@pytest.mark.parametrize(("section", "language"), PLACES, ids=["-".join(place).replace(" ", "_") for place in PLACES])
async def test_each_snippet_runs(
    api: ApiStage, environment: dict[str, str], tmp_path: Path, section: str, language: str
) -> None:
    demo = await api.tenant()
    conversation = await add_conversation(api, demo)
    url = f"http://127.0.0.1:{api.port}"
    (tmp_path / ".palomar").mkdir()
    (tmp_path / ".palomar" / "api-key").write_text(f"{demo.key}\n")
    text = PROGRAMS[section, language].replace("http://127.0.0.1:8081", url)
    if "@trpc/" in text:
        await asyncio.to_thread(node.ready)
        (tmp_path / "node_modules").symlink_to(node.modules("v11"))
        text = TYPES.sub("", text)
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


async def test_the_problem_that_is_shown_is_what_the_api_answers(api: ApiStage) -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    answer = await api.post("/v1/contacts", await api.tenant(), {})
    assert answer.body == orjson.loads(shown)


def test_the_first_calls_are_shown_in_curl_python_and_typescript() -> None:
    assert {language for section, language in PROGRAMS if section == FIRST} == {"sh", "python", "ts"}
