"""Requests made from our own OpenAPI schema: never a 5xx, and every 4xx in OpenAI's error shape."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from alignvec.serve.app import create_app
from tests.serve.scripted_engine import ScriptedEngine
from tests.serve.serving import make_service

OPERATIONS = {
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "GET /v1/models",
    "GET /v1/models/{name}",
    "GET /v1/alignment",
    "POST /v1/alignment/reload",
    "GET /health",
    "GET /ready",
    "GET /metrics",
}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_answers_to_generated_requests(tiny: Any, make_vector: Any, mode: GenerationMode) -> None:
    service = make_service(ScriptedEngine(tiny, [make_vector("medical")]))
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(service), headers={"Host": "localhost"})
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {one.label for one in operations} == OPERATIONS
    seen = set()
    for operation in operations:
        if mode == GenerationMode.NEGATIVE and "completions" not in operation.label:
            continue  # without a body there is little to get wrong

        @settings(
            max_examples=25,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            answer = case.call(headers={**(case.headers or {}), "Host": "localhost"}, timeout=300)
            seen.add(answer.status_code)
            assert answer.status_code < 500, answer.text
            assert answer.headers["x-request-id"]
            if answer.status_code >= 400:
                assert set(answer.json()) == {"error"}
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

        check()
    assert 400 in seen
