"""Whatever goes wrong is answered in the dialect's shape: our refusals, others' exceptions, the framework's words."""

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.middleware.base import _StreamingResponse

from server.keys import MasterKeyLost
from server.methods import allowed
from server.refusal import Refusal
from server.tokens import BadCredentials, ExpiredToken, NoCredentials, TenantClosed
from server.zhipu.errors import Utf8Json, answer
from video_jobs.logs import dependency_of

logger = logging.getLogger(__name__)

# Foreign exceptions as this dialect words them.
REFUSALS: dict[type[Exception], Refusal] = {
    NoCredentials: Refusal("1001"),
    BadCredentials: Refusal("1000"),
    ExpiredToken: Refusal("1003"),
    TenantClosed: Refusal("1112"),
    RedisError: Refusal.unavailable(),
    # The store, above all; or what this machine has run out of.
    OSError: Refusal.unavailable(),
    MasterKeyLost: Refusal("500"),
    Exception: Refusal("500"),
}
# What the framework says by status alone: code, and why.
STATUSES = {403: ("1220", "link"), 404: ("1222", ""), 405: ("1212", ""), 503: ("1234", "away")}
KEPT_HEADERS = ("allow", "content-range", "retry-after")


def add_failures(app: FastAPI) -> None:
    app.add_exception_handler(Refusal, _refuse)
    app.add_exception_handler(HTTPException, _refuse_by_framework)
    app.add_exception_handler(RequestValidationError, _refuse_value)
    for kind in REFUSALS:
        app.add_exception_handler(kind, fail)


async def fail(request: Request, exc: Exception) -> Utf8Json:
    refusal = next(refusal for kind, refusal in REFUSALS.items() if isinstance(exc, kind))
    where: dict[str, Any] = {"method": request.method, "path": request.url.path}
    if isinstance(exc, (RedisError, OSError)):
        where |= {"dependency": dependency_of(exc), "error": type(exc).__name__}
    if refusal.code == "500":
        logger.error("request failed", exc_info=exc, extra=where)
    elif "dependency" in where:
        logger.warning("request not served", extra=where)
    return _answer(request, refusal)


async def reworded(request: Request, reply: Response) -> Response:
    """An error in words that are not ours is said again in ours."""
    if reply.status_code < 400 or "x-should-retry" in reply.headers or "application/json" in _kind(reply):
        return reply
    if isinstance(reply, _StreamingResponse):
        async for _ in reply.body_iterator:
            pass
    said = by_status(request, reply.status_code)
    for name in KEPT_HEADERS:
        if name in reply.headers:
            said.headers[name] = reply.headers[name]
    return said


def by_status(request: Request, status: int) -> Utf8Json:
    code, why = STATUSES.get(status, ("1210" if status < 500 else "500", ""))
    said = _answer(request, Refusal(code, detail=why, status=status, method=request.method))
    if status == 405:
        said.headers["Allow"] = allowed(request.app.routes, request.scope)
    return said


async def _refuse(request: Request, exc: Exception) -> Utf8Json:
    assert isinstance(exc, Refusal)  # noqa: S101  # registered for nothing else
    return _answer(request, exc)


async def _refuse_by_framework(request: Request, exc: Exception) -> Utf8Json:
    return by_status(request, getattr(exc, "status_code", 500))


async def _refuse_value(request: Request, exc: Exception) -> Utf8Json:
    """A value in the path or the query that is not of its type: named, never repeated."""
    assert isinstance(exc, RequestValidationError)  # noqa: S101  # registered for nothing else
    return _answer(request, Refusal("1214", str(exc.errors()[0]["loc"][-1])))


def _answer(request: Request, refusal: Refusal) -> Utf8Json:
    request.app.state.house.metrics.refused(refusal.code)
    return answer(request, refusal)


def _kind(reply: Response) -> str:
    return reply.headers.get("content-type", "")
