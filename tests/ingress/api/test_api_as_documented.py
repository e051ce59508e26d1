"""The API does what /openapi.json says: schemathesis makes requests of it, right ones and wrong ones, and compares."""

import asyncio
import os
from collections.abc import Callable
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
from ops.soak import SEED
from tests.support.api import ApiStage
from tests.support.api_inputs import caller

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERY = [one for one in registry().values() if one.kind in ("query", "mutation")]
EXAMPLES = 3  # of each procedure and mode, the same ones each time
MANY = 100  # of a soak, others each time
BASE = hypothesis.settings(
    deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate],
)  # fmt: skip
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
    await tried_out(one_api, procedure, hypothesis.settings(BASE, max_examples=EXAMPLES, derandomize=True))


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_it_answers_as_documented_to_what_chance_makes(one_api: ApiStage) -> None:
    for procedure in EVERY:
        print(procedure.name, flush=True)
        await tried_out(one_api, procedure, hypothesis.settings(BASE, max_examples=MANY), os.environ[SEED])


async def tried_out(
    api: ApiStage, procedure: AnyProcedure, settings: hypothesis.settings, seed: str | None = None
) -> None:
    """Send requests that fit the document, and others that do not, and compare the answers with it."""
    operation: APIOperation[Any, Any, Any, Any] = documented().find_operation_by_id(procedure.name)
    whose = await caller(api, procedure)
    takes_anything = procedure.input.model_fields or procedure.kind == "mutation"
    for mode in GenerationMode if takes_anything else [GenerationMode.POSITIVE]:
        run = hypothesis.given(case=operation.as_strategy(mode))(calling(f"http://127.0.0.1:{api.port}", whose.key))
        run = settings(run)
        await asyncio.to_thread(run if seed is None else hypothesis.seed(seed)(run))


def calling(url: str, key: str) -> Callable[..., None]:
    """A function that sends a request and compares the answer."""

    def one(case: "schemathesis.Case[Any]") -> None:
        case.call_and_validate(base_url=url, headers={"Authorization": f"Bearer {key}"}, checks=CHECKS)

    return one
