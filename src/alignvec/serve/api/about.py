"""What is served: models, vectors, and whether the server is well."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from alignvec.serve.api.about_schema import AlignmentInfo, ModelInfo, ModelList, Status
from alignvec.serve.api.errors import ERRORS
from alignvec.serve.api.knobs import model_knobs, name_error
from alignvec.serve.api.schema import KEY, answered
from alignvec.serve.api.told import told_alignment, told_model, told_models
from alignvec.serve.errors import BadRequestError, ForbiddenError
from alignvec.serve.policy.rules import Rules
from alignvec.serve.service import Service


def about_router(service: Service) -> APIRouter:
    """Routes of models and vectors."""
    router = APIRouter(prefix="/v1", responses=ERRORS, dependencies=[KEY], tags=["models and vectors"])
    served = service.options.model

    @router.get("/models", response_model=None, responses=answered(ModelList))
    async def models(request: Request) -> dict[str, Any]:
        """The base model, and one entry for each level of each vector that the key may ask for."""
        return told_models(served, service.engine.scales, request.state.rules)

    @router.get("/models/{name:path}", response_model=None, responses=answered(ModelInfo))
    async def model(request: Request, name: str) -> dict[str, Any]:
        """One model, with any knobs in its name."""
        try:
            service.setting(request.state.rules, [model_knobs(name, served)])
        except (BadRequestError, ForbiddenError) as error:
            raise name_error(error) from None
        return told_model(name)

    @router.get("/alignment", response_model=None, responses=answered(AlignmentInfo))
    async def alignment(request: Request) -> dict[str, Any]:
        """Vectors, what their positions mean, how far the key may turn them, what was measured; goals and router."""
        return _alignment(service, request.state.rules)

    @router.post("/alignment/reload", response_model=None, responses=answered(AlignmentInfo))
    async def reload(request: Request) -> dict[str, Any]:
        """Read the vectors again; running requests finish with the old ones. For admin keys."""
        await service.reload(request.state.rules)
        return _alignment(service, request.state.rules)

    return router


def health_router(service: Service) -> APIRouter:
    """Routes for whoever watches the server; they need no key."""
    router = APIRouter(tags=["health"])

    @router.head("/health", include_in_schema=False)
    @router.get("/health", response_model=None, responses=answered(Status))
    async def health() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @router.head("/ready", include_in_schema=False)
    @router.get("/ready", response_model=None, responses={**answered(Status), 503: ERRORS[503]})
    async def ready() -> dict[str, str]:
        """Requests can be answered."""
        service.require_ready()
        return {"status": "ready"}

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _alignment(service: Service, rules: Rules) -> dict[str, Any]:
    options = service.options
    return told_alignment(
        options.model,
        service.engine.cards,
        service.engine.scales,
        rules,
        options.goals,
        strict=options.strict,
        routed=None if options.routing is None else options.routing.domains,
    )
