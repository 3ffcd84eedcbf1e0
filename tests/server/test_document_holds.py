"""The OpenAPI document and the server agree: no generated request gives a 5xx, every answer fits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as some

from tests.kelpie_server import ServerProcess

_EXAMPLES_EACH = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that may be filled with nonsense."""
    with ServerProcess(tmp_path_factory.mktemp("nonsense")) as server:
        yield server


def _requests(operation: Any) -> some.SearchStrategy[Any]:
    as_described: some.SearchStrategy[Any] = operation.as_strategy()
    if not operation.body:
        return as_described
    otherwise = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
    return some.one_of(as_described, otherwise)


def _conversation(server: ServerProcess, operation: Any, job_id: str) -> Any:
    @hypothesis.settings(
        max_examples=_EXAMPLES_EACH,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=_requests(operation), is_known=some.booleans())
    def converse(case: Any, is_known: bool) -> None:
        if is_known and "job_id" in (case.path_parameters or {}):
            case.path_parameters["job_id"] = job_id
        if "wait" in (case.query or {}):
            case.query["wait"] = 0
        case.call_and_validate(
            base_url=server.url,
            headers={"X-Kelpie-Key": server.admin_key},
            checks=[
                schemathesis.checks.not_a_server_error,
                *schemathesis.checks.CHECKS.get_by_names(
                    ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]
                ),
            ],
        )

    return converse


def test_answers_are_as_the_document_says(server: ServerProcess) -> None:
    """On every route, for a job that is there and for one that is not."""
    job = server.call("POST", "/jobs", {"command": "true", "container_group_id": "g"})
    schema = schemathesis.openapi.from_dict(server.call("GET", "/openapi.json"))
    complaints = []
    for found in schema.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]
        try:
            _conversation(server, operation, job["id"])()
        except Exception as error:  # noqa: BLE001 - all complaints at once
            complaints.append(f"{operation.label}: {error}")

    assert not complaints, "\n\n".join(complaints)
