"""The gateway's HTTP application: an OpenAI-compatible API over a `Backend`."""

from importlib import metadata

import msgspec
from fastapi import APIRouter, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sllmreal.gateway.backend import Backend, DeployedModel
from sllmreal.gateway.errors import ApiError, ClientLeftError
from sllmreal.gateway.gate import OPEN_PATH, Gate
from sllmreal.gateway.service import CLIENT_LEFT, GatewayService
from sllmreal.gateway.settings import GatewaySettings


def create_app(backend: Backend, settings: GatewaySettings) -> FastAPI:
    """The application; `app.state.service` is its Service. Raises UsageError for bad keys files."""
    service = GatewayService(backend, settings)
    # No schema and no pages about it: they would be routes that tell what runs here.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = service
    app.include_router(_generating(service))
    app.include_router(_telling(service))
    app.add_middleware(
        Gate,
        keyring=service.keyring,
        admission=service.admission,
        draining=lambda: service.draining,
        refused=service.refused,
    )
    _answer_errors(app, service)
    return app


def _generating(service: GatewayService) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.post("/completions")
    async def completions(request: Request) -> Response:
        return await service.completion(request)

    @router.post("/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await service.chat(request)

    return router


def _telling(service: GatewayService) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/models")
    async def models(request: Request) -> Response:
        principal = request.state.principal
        seen = [_card(model) for model in service.backend.models() if principal.sees(model)]
        return _json({"object": "list", "data": seen})

    @router.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Response:
        return _json(_card(service.planner(request).model(name)))

    @router.get(OPEN_PATH)
    async def health() -> Response:
        ailments = service.ailments()
        status = "unhealthy" if ailments else "ok"
        return _json({"status": status, "reasons": ailments}, 503 if ailments else 200)

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        if not request.state.principal.is_operator:
            message = "This key may not read metrics: they name every tenant's models."
            raise ApiError(403, message, "permission_error", "operators_only")
        return Response(service.metrics.page(), headers={"content-type": CONTENT_TYPE_LATEST})

    @router.get("/version")
    async def version() -> Response:
        return _json({"version": metadata.version("serverless-llm-toolkit")})

    return router


def _answer_errors(app: FastAPI, service: GatewayService) -> None:
    """Errors of routes, of routing and of our own mistakes, all as OpenAI's error objects."""

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        service.refused(error)
        return error.response()

    @app.exception_handler(ClientLeftError)
    async def left(request: Request, error: ClientLeftError) -> Response:
        return Response(status_code=CLIENT_LEFT)

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        message = f"{error.detail}: {request.method} {request.url.path[:200]}"
        return await refused(request, ApiError(error.status_code, message))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        message = "The gateway made a mistake; its log says which."
        return await refused(request, ApiError(500, message, "server_error", "internal_error"))


def _card(model: DeployedModel) -> dict[str, object]:
    return {
        "id": model.name,
        "object": "model",
        "created": int(model.created_at_s),
        "owned_by": model.owner,
        "max_model_len": model.context_tokens,
    }


def _json(value: object, status: int = 200) -> Response:
    headers = {"content-type": "application/json"}
    return Response(msgspec.json.encode(value), status, headers)
