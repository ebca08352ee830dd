"""The whole server as one ASGI app: the API, and the page at /."""

from importlib.metadata import version

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from alignvec.errors import AlignvecError
from alignvec.serve.api.about import about_router, health_router
from alignvec.serve.api.errors import add_handlers
from alignvec.serve.api.gate import PROBES, REPLIES, Gate
from alignvec.serve.api.replies import replies_router
from alignvec.serve.service import Service

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def create_app(service: Service) -> FastAPI:
    """The app that serves one model."""
    app = FastAPI(
        title="alignvec",
        version=version("alignvec"),
        description="OpenAI-compatible, with preference knobs per request.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )

    def refused(request: Request, error: AlignvecError) -> None:
        if request.url.path in REPLIES:
            service.refused(request.url.path, request.state.rules.name, error)

    add_handlers(app, refused)
    routers = [replies_router(service), about_router(service), health_router(service)]
    for router in routers:
        app.include_router(router)

    async def unknown(request: Request) -> Response:
        own = [route for router in routers for route in router.routes]
        methods = {
            method
            for route in own
            if route.matches({**request.scope, "path_params": {}})[0] == Match.PARTIAL
            for method in getattr(route, "methods", ())
        }
        if methods:
            raise HTTPException(405, "method not allowed", {"allow": ", ".join(sorted(methods))})
        raise HTTPException(404, "no such endpoint")

    # The page takes every other path; what the API does not have must not end there.
    for path in ("/v1", "/v1/{rest:path}", *PROBES):
        app.add_api_route(path, unknown, methods=METHODS, include_in_schema=False)

    if service.options.page:
        from alignvec.serve.page.page import mount

        app = mount(app, service)
    app.add_middleware(Gate, service=service)
    return app
