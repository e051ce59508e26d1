"""The API does what /openapi.json says: schemathesis makes requests of it, right ones and wrong ones, and compares."""

import asyncio
from functools import cache
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.config import ChecksConfig, GenerationConfig, ProjectConfig, ProjectsConfig
from schemathesis.config._checks import NegativeDataRejectionConfig
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from ingress.api.declaration import AnyProcedure, registry
from ingress.api.reference.openapi import document
from tests.support.api import ApiStage
from tests.support.api_inputs import caller

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERY = [one for one in registry().values() if one.kind in ("query", "mutation")]
EXAMPLES = 4  # of each procedure and mode: all together take half a minute
CHECKS: list[CheckFunction] = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]


@cache
def documented() -> Any:
    project = ProjectConfig(
        generation=GenerationConfig(with_security_parameters=False),
        checks=ChecksConfig(negative_data_rejection=NegativeDataRejectionConfig(expected_statuses=["4xx"])),
    )
    config = schemathesis.Config(projects=ProjectsConfig(default=project))
    return schemathesis.openapi.from_dict(document(registry().values()), config=config)


@pytest.mark.parametrize("procedure", EVERY, ids=[one.name for one in EVERY])
async def test_it_answers_as_documented(one_api: ApiStage, procedure: AnyProcedure) -> None:
    operation = documented().find_operation_by_id(procedure.name)
    whose = await caller(one_api, procedure)
    takes_anything = procedure.input.model_fields or procedure.kind == "mutation"
    for mode in GenerationMode if takes_anything else [GenerationMode.POSITIVE]:
        await asyncio.to_thread(try_out, operation, mode, f"http://127.0.0.1:{one_api.port}", whose.key)


def try_out(operation: "APIOperation[Any, Any, Any, Any]", mode: GenerationMode, url: str, key: str) -> None:
    """Send so many requests that fit the document, or do not, and compare the answers with it."""

    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy(mode))
    def one(case: "schemathesis.Case[Any]") -> None:
        case.call_and_validate(base_url=url, headers={"Authorization": f"Bearer {key}"}, checks=CHECKS)

    one()
