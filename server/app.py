"""The gateway as an ASGI app: built from its settings, opened and closed by its lifespan."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network

from fastapi import FastAPI, Request, Response
from redis.asyncio import Redis
from starlette.requests import ClientDisconnect

from server import files, health
from server.admin.router import router as admin
from server.auditor import note_answer
from server.body import Bodies
from server.deps import House
from server.failures import add_failures, fail, reworded
from server.images import ImageIntake
from server.intake import JobIntake
from server.keys import KeyRing
from server.methods import Methods
from server.metrics import GatewayMetrics
from server.policing import ContentPolicy
from server.settings import GatewaySettings
from server.zhipu import openapi, routes, tasks
from video_jobs import chores
from video_jobs.audit.office import open_audit
from video_jobs.catalogue import load_catalogue
from video_jobs.declared import keep_applied
from video_jobs.links import LinkSigner, open_links, secret_file
from video_jobs.logs import about
from video_jobs.policy.moderation import open_moderator
from video_jobs.policy.users import UserBook
from video_jobs.policy.words import WordLists
from video_jobs.queue import lazy_redis
from video_jobs.reaper import run_reaper
from video_jobs.results import open_results
from video_jobs.store import JobStore
from video_jobs.sweeper import DAY_SECONDS, Sweeper, run_sweeper
from video_jobs.tenants import TenantBook
from video_jobs.tracing import open_traces


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
    app.include_router(admin)
    app.include_router(openapi.router)
    app.include_router(files.router)
    app.include_router(health.router)
    app.add_middleware(Methods, routes=app.routes, origins=settings.cors_origins)
    app.middleware("http")(_observe)
    add_failures(app)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: GatewaySettings = app.state.settings
    # Redis may be away now and come later: the gateway is alive meanwhile, and not ready.
    redis = lazy_redis(settings.redis_url.get_secret_value())
    house = app.state.house = build_house(settings, redis)
    logging.getLogger().addHandler(house.metrics.warnings)
    if settings.metrics_port:
        house.metrics.serve(settings.metrics_port, settings.host)
    sweeper = Sweeper(house.store, house.results, settings.retention_days * DAY_SECONDS)
    running = [
        asyncio.create_task(run_reaper(house.store, on_reaped=house.metrics.reaped)),
        asyncio.create_task(house.metrics.keep_census(redis, house.intake.routes)),
        asyncio.create_task(run_sweeper(sweeper, house.store)),
        asyncio.create_task(keep_applied(settings.tenants_file, house.book, log=house.audit.log)),
        asyncio.create_task(house.audit.sealer.run()),
        asyncio.create_task(house.audit.log.run()),
        asyncio.create_task(house.policy.words.keep_fresh()),
    ]
    try:
        yield
    finally:
        logging.getLogger().removeHandler(house.metrics.warnings)
        # The audit's last words need Redis.
        await chores.end(set(running))
        await asyncio.to_thread(house.traces.close)
        await house.images.close()
        if house.policy.moderator:
            await house.policy.moderator.close()
        await redis.aclose()


def build_house(settings: GatewaySettings, redis: Redis) -> House:
    store, results = JobStore(redis, lease_s=settings.lease_seconds), open_results(settings)
    traces = open_traces(settings.tracing, "cogvideox-gateway")
    book = TenantBook(store)
    words, moderator = WordLists(settings.policy_words), open_moderator(settings)
    policy = ContentPolicy(book, UserBook(redis), words, moderator, results)
    signer = LinkSigner(secret_file(settings.link_key), settings.public_url)
    images = ImageIntake(results, settings)
    return House(
        settings=settings,
        redis=redis,
        store=store,
        ring=KeyRing(redis, secret_file(settings.master_key), map(secret_file, settings.old_key_files)),
        results=results,
        signer=signer,
        links=open_links(settings, results, signer),
        bodies=Bodies(settings.max_body_bytes, settings.body_seconds),
        images=images,
        intake=JobIntake(store, load_catalogue(settings.catalogue), images, settings, policy),
        metrics=GatewayMetrics(),
        traces=traces,
        book=book,
        policy=policy,
        audit=open_audit(settings, redis),
        proxies=tuple(ip_network(network) for network in settings.trusted_proxies),
    )


async def _observe(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Count every answer, and let no exception out as anything but the contract's shape."""
    started = time.monotonic()
    about()
    try:
        reply = await reworded(request, await call_next(request))
    except ClientDisconnect:
        reply = Response(status_code=400)
    except Exception as exc:
        reply = await fail(request, exc)
    route = getattr(request.scope.get("route"), "name", "other")
    house: House = request.app.state.house
    house.metrics.note(route, reply.status_code, time.monotonic() - started)
    await note_answer(house.audit.log, request, reply, route)
    return reply
