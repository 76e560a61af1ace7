"""Simulated workers on real scripts: every claim and finish is a call to Redis, only the rendering takes no time."""

import asyncio
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from video_jobs.job import Claim, Job, JobState, Outcome, Rendered
from video_jobs.store import JobStore


@dataclass
class Ended:
    job: Job
    started_s: float
    ended_s: float


@dataclass
class Pool:
    """Workers that render for as long as `seconds` says, by a clock of their own that jumps from end to end."""

    store: JobStore
    workers: int
    seconds: Callable[[Job], float]
    now_s: float = 0.0
    ended: list[Ended] = field(default_factory=list)
    _busy: list[tuple[float, int, Claim, Ended]] = field(default_factory=list)

    async def run(self, until: Callable[[], bool]) -> None:
        """Start and end jobs until that holds, or nothing is left."""
        while not until():
            await self.fill()
            if not self._busy:
                return
            await self._end_next()

    async def run_to(self, moment_s: float) -> None:
        """Everything that ends before this moment."""
        await self.fill()
        while self._busy and self._busy[0][0] <= moment_s:
            await self._end_next()
            await self.fill()
        self.now_s = moment_s

    async def fill(self) -> None:
        while len(self._busy) < self.workers and (claim := await self.store.claim("simulated", ["tiny"])):
            record = await self.store.get(claim.job_id)
            assert record is not None
            ends = self.now_s + self.seconds(record.job)
            heapq.heappush(self._busy, (ends, id(claim), claim, Ended(record.job, self.now_s, ends)))

    async def _end_next(self) -> None:
        self.now_s, _, claim, ended = heapq.heappop(self._busy)
        rendered = Rendered(stage_seconds={"denoise": ended.ended_s - ended.started_s})
        assert await self.store.finish(claim, Outcome(state=JobState.SUCCEEDED, rendered=rendered))
        self.ended.append(ended)


async def accept(store: JobStore, jobs: Iterable[Job], at_once: int = 50) -> None:
    waiting = list(jobs)
    for start in range(0, len(waiting), at_once):
        await asyncio.gather(*(store.accept(job) for job in waiting[start : start + at_once]))


def max_min_shares(demands: dict[str, float], capacity: float) -> dict[str, float]:
    """The fair allocation: nobody gets more than is asked for, and nobody could get more without a poorer one less."""
    shares: dict[str, float] = {}
    for position, (name, demand) in enumerate(sorted(demands.items(), key=lambda item: item[1])):
        shares[name] = min(demand, (capacity - sum(shares.values())) / (len(demands) - position))
    return shares


def jain(values: Iterable[float]) -> float:
    """Jain's index: 1 when all are equal, 1/n when one has all."""
    known = list(values)
    return sum(known) ** 2 / (len(known) * sum(value * value for value in known))
