"""What is served: models, vectors, and whether the server is well."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from alignvec.serve.api.errors import ERRORS
from alignvec.serve.api.knobs import model_knobs
from alignvec.serve.errors import BadRequestError, ForbiddenError, UnknownModelError
from alignvec.serve.policy.rules import Rules, usable_range
from alignvec.serve.service import Service
from alignvec.steer.scale import Scale

PRECEDENCE = (
    "alignment in the body, then the header X-Alignment, then the model's name, then the key's defaults, then the "
    "base; each vector by itself; a goal is a value for every vector; with a router each knob counts as far as the "
    "prompt is its domain's; what the key's policy forces always holds"
)


def about_router(service: Service) -> APIRouter:
    """Routes of models and vectors."""
    router = APIRouter(prefix="/v1", responses=ERRORS)
    served = service.options.model

    @router.get("/models")
    async def models(request: Request) -> dict[str, Any]:
        """The base model, and one entry for each level of each vector that the key may ask for."""
        rules: Rules = request.state.rules
        levels = [
            f"{served}:{scale.name}={level}"
            for scale in service.engine.scales.values()
            for level, value in scale.levels.items()
            if (bound := rules.bound(scale)) and bound.low <= value <= bound.high
        ]
        return {"object": "list", "data": [_model(name) for name in (served, *levels)]}

    @router.get("/models/{name:path}")
    async def model(request: Request, name: str) -> dict[str, Any]:
        """One model, with any knobs in its name."""
        try:
            service.setting(request.state.rules, [model_knobs(name, served)])
        except (BadRequestError, ForbiddenError) as error:
            raise UnknownModelError(str(error), param="model") from None
        return _model(name)

    @router.get("/alignment")
    async def alignment(request: Request) -> dict[str, Any]:
        """Vectors, what their positions mean, how far the key may turn them, what was measured; goals and router."""
        return _alignment(service, request.state.rules)

    @router.post("/alignment/reload")
    async def reload(request: Request) -> dict[str, Any]:
        """Read the vectors again; running requests finish with the old ones. For admin keys."""
        await service.reload(request.state.rules)
        return _alignment(service, request.state.rules)

    return router


def health_router(service: Service) -> APIRouter:
    """Routes for whoever watches the server; they need no key."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @router.get("/ready", responses={503: ERRORS[503]})
    async def ready() -> dict[str, str]:
        """Requests can be answered."""
        service.require_ready()
        return {"status": "ready"}

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "alignvec"}


def _allowed(rules: Rules, scale: Scale) -> dict[str, Any] | None:
    bound, (low, high) = rules.bound(scale), usable_range(scale)
    if bound is None:
        return None
    return {"min": max(bound.low, low), "max": min(bound.high, high), "default": bound.rest, "forced": bound.forced}


def _alignment(service: Service, rules: Rules) -> dict[str, Any]:
    cards, scales = service.engine.cards, service.engine.scales
    vectors = [
        {
            "name": name,
            "domain": cards[name].domain,
            "levels": dict(scale.levels),
            "usable_range": scale.usable,
            "applied_range": usable_range(scale),
            "key": _allowed(rules, scale),
            "percent_curve": [list(point) for point in scale.curve],
            **cards[name].model_dump(mode="json", include={"measured", "calibration", "spillover"}),
            "licence": cards[name].licence,
        }
        for name, scale in scales.items()
    ]
    routing = service.options.routing
    return {
        "object": "list",
        "model": service.options.model,
        "data": vectors,
        "goals": [{"goal": goal, **solved.model_dump()} for goal, solved in service.options.goals.items()],
        "router": None if routing is None else {"domains": routing.domains},
        "strict": service.options.strict,
        "precedence": PRECEDENCE,
    }
