"""What HTTP asks of every path: HEAD where there is GET, OPTIONS, one slash where a client wrote two, and CORS.

CORS is for browsers' pages of other origins, and off unless the operator lists those origins.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
HEADER_NAMES = re.compile(r"[A-Za-z0-9_-]{1,64}( *, *[A-Za-z0-9_-]{1,64}){0,31}")
EXPOSED, MAX_AGE_SECONDS = "x-should-retry, Retry-After", "600"


class Methods:
    """The app below sees GET for HEAD, and no OPTIONS for a path that exists."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], origins: Collection[str]) -> None:
        self._app, self._routes, self._origins = app, routes, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A base URL that ends in a slash, and a path that starts with one.
        scope["path"] = re.sub("//+", "/", scope["path"])
        answer = self._with_origin(Headers(scope=scope).get("origin"), send)
        if scope["method"] == "OPTIONS" and (methods := allowed(self._routes, scope)):
            await self._tell(methods, scope, answer)
        elif scope["method"] == "HEAD" and _served(self._routes, scope) & {"GET", "HEAD"} == {"GET"}:
            scope["method"] = "GET"
            await self._app(scope, receive, _without_body(scope, answer))
        else:
            await self._app(scope, receive, answer)

    async def _tell(self, methods: str, scope: Scope, send: Send) -> None:
        headers = MutableHeaders({"Allow": methods, "Content-Length": "0"})
        asked = Headers(scope=scope)
        if "access-control-request-method" in asked and self._knows(asked.get("origin")):
            headers["Access-Control-Allow-Methods"] = methods
            headers["Access-Control-Max-Age"] = MAX_AGE_SECONDS
            wanted = asked.get("access-control-request-headers", "")
            if HEADER_NAMES.fullmatch(wanted):
                headers["Access-Control-Allow-Headers"] = wanted
        await send({"type": "http.response.start", "status": 200, "headers": headers.raw})
        await send({"type": "http.response.body", "body": b""})

    def _knows(self, origin: str | None) -> bool:
        return origin is not None and (origin in self._origins or "*" in self._origins)

    def _with_origin(self, origin: str | None, send: Send) -> Send:
        if not self._origins:
            return send

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Origin")
                if origin is not None and self._knows(origin):
                    headers["Access-Control-Allow-Origin"] = origin
                    headers["Access-Control-Expose-Headers"] = EXPOSED
            await send(message)

        return answer


def allowed(routes: Iterable[BaseRoute], scope: Scope) -> str:
    """The path's methods as an `Allow` header names them; empty if there is no such path."""
    methods = _served(routes, scope)
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods | {"OPTIONS"})) if methods else ""


def _served(routes: Iterable[BaseRoute], scope: Scope) -> set[str]:
    def serves(method: str) -> bool:
        asked: dict[str, Any] = {**scope, "method": method}
        return any(route.matches(asked)[0] is Match.FULL for route in routes)

    return {method for method in METHODS if serves(method)}


def _without_body(scope: Scope, send: Send) -> Send:
    async def answer(message: Message) -> None:
        # Whoever writes the answer out must see the method that was asked.
        scope["method"] = "HEAD"
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return answer
