"""The server's OpenAPI schema, and its endpoints, errors and metrics as tables."""

import json
from types import SimpleNamespace
from typing import Any

from alignvec.serve.app import create_app
from alignvec.serve.ask import Options
from alignvec.serve.engine.request import Load
from alignvec.serve.errors import ServeError
from alignvec.serve.metrics import Metrics


def schema() -> dict[str, Any]:
    """The schema as `GET /openapi.json` answers it; no model is loaded for it."""
    embeddings = SimpleNamespace(num_embeddings=0)
    base = SimpleNamespace(tokenizer=(), model=SimpleNamespace(get_input_embeddings=lambda: embeddings))
    service: Any = SimpleNamespace(engine=SimpleNamespace(base=base), options=Options("demo", page=False))
    return create_app(service).openapi()


def schema_text() -> str:
    """The schema as it is kept beside the page."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def endpoint_table() -> str:
    """A table of the endpoints: what each does, and what a success holds."""
    lines = ["| endpoint | what it does | answer |", "| --- | --- | --- |"]
    for path, methods in schema()["paths"].items():
        for method, told in methods.items():
            answer = told["responses"]["200"]["content"]
            names = [one["schema"].get("$ref", "text").rpartition("/")[2] for one in answer.values()]
            key = "" if "security" in told else " Needs no key."
            lines.append(f"| `{method.upper()} {path}` | {told['description']}{key} | {', '.join(names)} |")
    return "\n".join(lines)


def error_table() -> str:
    """A table of the errors: status, `type`, `code`, and when they come."""
    lines = ["| status | `type` | `code` | when |", "| --- | --- | --- | --- |"]
    for error in sorted(_errors(ServeError), key=lambda one: (one.status, one.code)):
        when = str(error.__doc__).partition("\n")[0]
        lines.append(f"| {error.status} | `{error.kind}` | `{error.code}` | {when} |")
    return "\n".join(lines)


def metrics_table() -> str:
    """A table of the metrics: name, kind, what it counts."""
    lines = ["| metric | kind | what |", "| --- | --- | --- |"]
    for family in Metrics(lambda: Load(0, 0, 0, 1.0)).registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        lines.append(f"| `{name}` | {family.type} | {family.documentation} |")
    return "\n".join(lines)


def _errors(error: type[ServeError]) -> list[type[ServeError]]:
    # What stands in front of vLLM has one of its own, which is known only where that was imported.
    own = [child for child in error.__subclasses__() if not child.__module__.startswith("alignvec.serve.vllm")]
    return [one for child in own for one in (child, *_errors(child))]
