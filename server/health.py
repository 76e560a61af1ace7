"""Whether the gateway is alive, and whether it may take jobs: Redis answers and keeps what it is told."""

import asyncio
import functools
import logging

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from server.deps import TheHouse

router = APIRouter()
logger = logging.getLogger(__name__)

ASKED = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")
HIDDEN = "redis hides its configuration: set COGVIDEOX_ALLOW_UNSAFE_REDIS to vouch for it"


@router.get("/healthz")
async def is_alive() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/readyz")
async def is_ready(house: TheHouse) -> JSONResponse:
    """503 with the reasons while jobs must not be taken."""
    problems = await redis_problems(house.redis)
    if house.settings.allow_unsafe_redis:
        for problem in problems:
            _warn_once(f"accepted jobs may be lost, and COGVIDEOX_ALLOW_UNSAFE_REDIS allows it: {problem}")
        problems = [problem for problem in problems if problem.startswith("redis does not answer")]
    try:
        await asyncio.to_thread(house.results.check)
    except OSError as exc:
        problems.append(f"the store cannot be written: {exc.strerror}")
        logger.warning("the store cannot be written", extra={"dependency": "store", "error": exc.strerror})
    house.metrics.is_ready(not problems)
    if not problems:
        return JSONResponse({"ready": True, "problems": []})
    # The shape of every error, besides what a probe reads.
    error = {"code": "1234", "message": "; ".join(problems)}
    headers = {"x-should-retry": "true", "Retry-After": "5"}
    return JSONResponse({"ready": False, "problems": problems, "error": error}, 503, headers)


async def redis_problems(redis: Redis) -> list[str]:
    """Why this Redis could lose an accepted job; empty when it could not."""
    try:
        said = await redis.config_get(*ASKED)  # type: ignore[arg-type]
    except ResponseError:
        return [HIDDEN]
    except (RedisError, OSError) as exc:
        return [f"redis does not answer: {type(exc).__name__}"]
    if set(ASKED) - said.keys():
        return [HIDDEN]
    return _dangers(said)


def _dangers(said: dict[str, str]) -> list[str]:
    problems = []
    if said["appendonly"] != "yes":
        problems.append("redis keeps no append-only file: set appendonly yes")
    elif said["appendfsync"] == "no":
        problems.append("redis never syncs its file: set appendfsync always")
    elif said["appendfsync"] != "always":
        _warn_once("redis syncs once a second: a power cut may lose the last second of accepted jobs")
    if said["no-appendfsync-on-rewrite"] != "no":
        problems.append("redis does not sync while it rewrites its file: set no-appendfsync-on-rewrite no")
    if said["maxmemory-policy"] != "noeviction":
        problems.append(f"redis evicts keys ({said['maxmemory-policy']}): set maxmemory-policy noeviction")
    return problems


@functools.cache
def _warn_once(text: str) -> None:
    """Probes ask every few seconds; the log says it once for each process."""
    logger.warning(text)
