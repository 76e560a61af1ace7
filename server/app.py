"""The gateway as an ASGI app: built from its settings, opened and closed by its lifespan."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from server import files, health
from server.deps import House
from server.images import ImageIntake
from server.intake import JobIntake
from server.keys import KeyRing, MasterKeyLost
from server.metrics import GatewayMetrics
from server.refusal import Refusal
from server.settings import GatewaySettings
from server.tokens import BadCredentials, ExpiredToken, NoCredentials
from server.zhipu import routes, tasks
from server.zhipu.errors import Utf8Json, answer
from video_jobs.catalogue import load_catalogue
from video_jobs.links import LinkSigner, open_links, secret_file
from video_jobs.queue import lazy_redis
from video_jobs.reaper import run_reaper
from video_jobs.results import open_results
from video_jobs.store import JobStore

logger = logging.getLogger(__name__)

# Foreign exceptions as this dialect words them.
CODES: dict[type[Exception], str] = {
    NoCredentials: "1001",
    BadCredentials: "1000",
    ExpiredToken: "1003",
    RedisError: "1234",
    ConnectionError: "1234",
    MasterKeyLost: "500",
    Exception: "500",
}


def create_app(settings: GatewaySettings) -> FastAPI:
    app = FastAPI(
        title="CogVideoX Server",
        lifespan=_lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.settings = settings
    app.include_router(routes.router, prefix=settings.prefix)
    if not settings.strict:
        app.include_router(tasks.router, prefix=settings.prefix)
    app.include_router(files.router)
    app.include_router(health.router)
    app.middleware("http")(_observe)
    app.add_exception_handler(Refusal, _refuse)
    app.add_exception_handler(HTTPException, _refuse_by_framework)
    for kind in CODES:
        if kind is not Exception:
            app.add_exception_handler(kind, _fail)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: GatewaySettings = app.state.settings
    # Redis may be away now and come later: the gateway is alive meanwhile, and not ready.
    redis = lazy_redis(settings.redis_url.get_secret_value())
    house = app.state.house = build_house(settings, redis)
    if settings.metrics_port:
        house.metrics.serve(settings.metrics_port, settings.host)
    reaper = asyncio.create_task(run_reaper(house.store))
    try:
        yield
    finally:
        reaper.cancel()
        await house.images.close()
        await redis.aclose()


def build_house(settings: GatewaySettings, redis: Redis) -> House:
    store, results = JobStore(redis), open_results(settings)
    signer = LinkSigner(secret_file(settings.link_key), settings.public_url)
    images = ImageIntake(results, settings)
    return House(
        settings=settings,
        redis=redis,
        store=store,
        ring=KeyRing(redis, secret_file(settings.master_key)),
        results=results,
        signer=signer,
        links=open_links(settings, results, signer),
        images=images,
        intake=JobIntake(store, load_catalogue(settings.catalogue), images, settings),
        metrics=GatewayMetrics(),
    )


async def _observe(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Count every answer, and let no exception out as anything but the contract's shape."""
    started = time.monotonic()
    try:
        reply = await call_next(request)
    except ClientDisconnect:
        reply = Response(status_code=400)
    except Exception as exc:
        reply = await _fail(request, exc)
    route = getattr(request.scope.get("route"), "name", "other")
    house: House = request.app.state.house
    house.metrics.note(route, reply.status_code, time.monotonic() - started)
    return reply


async def _refuse(request: Request, exc: Exception) -> Utf8Json:
    assert isinstance(exc, Refusal)  # noqa: S101  # registered for nothing else
    return answer(request, exc)


async def _refuse_by_framework(request: Request, exc: Exception) -> Utf8Json:
    status = getattr(exc, "status_code", 500)
    if status == 405:
        return answer(request, Refusal("1212", method=request.method))
    if status == 404:
        return answer(request, Refusal("1222"))
    return answer(request, Refusal("1210" if status < 500 else "500", status=status))


async def _fail(request: Request, exc: Exception) -> Utf8Json:
    code = next(code for kind, code in CODES.items() if isinstance(exc, kind))
    if code == "500":
        logger.error("request failed", exc_info=exc, extra=_where(request))
    return answer(request, Refusal(code))


def _where(request: Request) -> dict[str, Any]:
    return {"method": request.method, "path": request.url.path}
