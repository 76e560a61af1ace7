"""What goes wrong, when, and where: drawn from a seed, so that a run can be had again."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable

from tests.faults.failpoints import ENGINE_POINTS, FINISHER_POINTS, GATEWAY_POINTS, WORKER_POINTS
from tests.faults.fleet import LINKS, Fleet

LOST_REPLY_POINTS = ("g.admitted", "g.accepted", "w.claimed", "w.finished", "w.requeued", "w.before_finish")
MOST_ARMED = 2


class Nemesis:
    """Every so often one fault of the menu strikes. Points are armed; whoever comes by first is struck."""

    def __init__(self, fleet: Fleet, seed: int, every_s: float) -> None:
        self._fleet, self._random, self._every_s = fleet, random.Random(seed), every_s
        self._running: set[asyncio.Task[None]] = set()
        self._menu: list[tuple[int, Callable[[], Awaitable[None] | None]]] = [
            (24, lambda: self._arm(WORKER_POINTS, "kill")),
            (14, lambda: self._arm(GATEWAY_POINTS, "kill")),
            (12, lambda: self._arm(ENGINE_POINTS, "kill")),
            (10, lambda: self._arm(FINISHER_POINTS, "kill")),
            (8, lambda: self._kill_any("worker")),
            (6, lambda: self._kill_any("gateway")),
            (4, self._kill_child),
            (5, self._kill_redis),
            (3, lambda: self._arm(WORKER_POINTS, "stop", 1.5 * self._fleet.shape.lease_s)),
            (3, self._drain),
            (4, lambda: self._arm(LOST_REPLY_POINTS, "error")),
            (3, lambda: self._arm(WORKER_POINTS + ENGINE_POINTS + FINISHER_POINTS, "delay", 2.0)),
            (2, lambda: self._arm(("f.encoded", "f.mid_encode", "w.before_upload"), "enospc")),
            (2, lambda: self._arm(("e.mid_render", "f.mid_encode", "w.mid_upload"), "error")),
            (6, self._disturb_link),
            (4, self._fail_bucket),
        ]

    async def run(self) -> None:
        """Strike until cancelled; what is under way is finished first."""
        try:
            while True:
                await asyncio.sleep(self._every_s * self._random.uniform(0.5, 1.5))
                weights, strikes = zip(*self._menu, strict=True)
                struck = self._random.choices(strikes, weights)[0]()
                if struck is not None:
                    task = asyncio.ensure_future(struck)
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
        finally:
            await asyncio.gather(*self._running)
            self._fleet.points.disarm()

    def _arm(self, points: tuple[str, ...], action: str, seconds: float = 0.0) -> None:
        point = self._random.choice(points)
        # Traps that wait for a process to come back would kill it again and again: then nothing runs at all.
        if self._fleet.points.count_armed(point[:2]) < MOST_ARMED and self._is_up(point):
            self._fleet.points.arm(point, action, seconds)

    def _is_up(self, point: str) -> bool:
        return not point.startswith("g.") or self._fleet.gateways_listen()

    def _any(self, kind: str) -> str:
        return self._random.choice([name for name in self._fleet.processes if name.startswith(kind)])

    def _kill_any(self, kind: str) -> None:
        if kind != "gateway" or self._fleet.gateways_listen():
            self._fleet.kill(self._any(kind))

    def _kill_child(self) -> None:
        children = self._fleet.children(self._any("worker"))
        if children:
            role, pid = self._random.choice(sorted(children.items()))
            self._fleet.points.note("kill", role=role, target_pid=pid)
            os.kill(pid, signal.SIGKILL)

    async def _kill_redis(self) -> None:
        if self._fleet.processes["redis"].poll() is None:
            await self._fleet.restart_redis(self._random.uniform(0, 3))

    async def _drain(self) -> None:
        name = self._any("worker")
        self._fleet.expected_exits.add(self._fleet.kill(name, signal.SIGTERM))

    def _disturb_link(self) -> None:
        link, do = self._random.choice(LINKS), self._random.choice(("cut", "stall", "mute", "delay"))
        if link == "s3" and do == "mute":
            do = "stall"
        self._fleet.order(link, do, self._random.uniform(0.2, 4.0), by=0.05)

    async def _fail_bucket(self) -> None:
        share, status = self._random.choice((0.3, 1.0)), self._random.choice((500, 503))
        await asyncio.to_thread(self._fleet.fail_bucket, share, status, self._random.uniform(0.5, 4.0))


class Sandman(Nemesis):
    """Puts one worker after another to sleep, its work done and not yet published, for longer than its lease."""

    AT_ONCE = 5
    POINTS = ("w.before_finish", "w.uploaded")

    async def run(self) -> None:
        lease_s, asleep = self._fleet.shape.lease_s, 0
        loop = asyncio.get_running_loop()

        def is_awake() -> None:
            nonlocal asleep
            asleep -= 1

        try:
            while True:
                free = [point for point in self.POINTS if not self._fleet.points.is_armed(point)]
                if asleep < self.AT_ONCE and free:
                    self._arm((free[0],), "stop", 2.2 * lease_s)
                    asleep += 1
                    loop.call_later(2.2 * lease_s, is_awake)
                await asyncio.sleep(0.05)
        finally:
            self._fleet.points.disarm()
