"""The reference as it is served: to anyone, once for all, under a strict policy."""

import base64
import hashlib
import re

import pytest

from tests.support.api import ApiStage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("path", "kind"), [("/docs", "text/html; charset=utf-8"), ("/openapi.json", "application/json")]
)
async def test_anyone_may_read_it(one_api: ApiStage, path: str, kind: str) -> None:
    answer = await one_api.get(path, None)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Content-Encoding"] == "gzip"
    again = await one_api.get(path, None, If_None_Match=answer.headers["ETag"])
    assert (again.status, again.body) == (304, "")
    plain = await one_api.get(path, None, Accept_Encoding="identity")
    assert plain.body == answer.body
    assert "Content-Encoding" not in plain.headers
    assert (await one_api.request("HEAD", path, None)).status == 200


async def test_the_policy_allows_the_pages_own_style_alone(one_api: ApiStage) -> None:
    answer = await one_api.get("/docs", None)
    (style,) = re.findall(r"<style>(.*?)</style>", answer.body, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["Content-Security-Policy"]
    assert " style=" not in answer.body


async def test_elsewhere_and_by_another_method_it_is_a_problem(one_api: ApiStage) -> None:
    assert (await one_api.get("/docs/", None)).problem == "unknown-path"
    assert (await one_api.post("/docs", None)).problem == "method-not-allowed"


async def test_the_type_of_a_problem_leads_to_its_place(one_api: ApiStage) -> None:
    refused = await one_api.get("/v1/contacts", None)
    path, _, anchor = refused.body["type"].partition("#")
    assert f'id="{anchor}"' in (await one_api.get(path, None)).body
