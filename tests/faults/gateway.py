"""The real gateway, with failpoints laid around what it does: for tests alone."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import server.__main__ as gateway
from server.app import create_app
from server.intake import JobIntake
from server.settings import GatewaySettings
from tests.faults.failpoints import Failpoints, around
from tests.faults.release import become_next_release
from tests.faults.seeded import plant
from video_jobs.store import JobStore


class MidReply:
    """Strikes between an answer's head and its body."""

    def __init__(self, app: Callable[..., Awaitable[None]], points: Failpoints) -> None:
        self._app, self._points = app, points

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body" and scope.get("method") == "POST":
                await self._points.pass_by_async("g.replying")
            await send(message)

        await self._app(scope, receive, sending)


def lay(points: Failpoints) -> None:
    around(JobIntake, "submit", points, ("g.received", ""))
    around(JobStore, "admit", points, ("g.before_admit", "g.admitted"))
    around(JobStore, "accept", points, ("g.before_accept", "g.accepted"))
    around(JobStore, "cancel", points, ("g.before_cancel", "g.cancelled"))
    around(JobStore, "get", points, ("g.reading", ""))


def build(settings: GatewaySettings) -> MidReply:
    points = Failpoints.of_this_process("gateway")
    lay(points)
    plant()
    become_next_release()
    return MidReply(create_app(settings), points)


if __name__ == "__main__":
    gateway.create_app = build  # type: ignore[assignment]
    gateway.main()
