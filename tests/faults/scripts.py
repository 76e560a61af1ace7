"""The job store with a clock of the test's own, and everything that its scripts leave behind, read at once."""

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import Any

from redis.asyncio import Redis

from tests.faults.mutants import script_sources
from video_jobs import keys
from video_jobs.catalogue import load_catalogue
from video_jobs.job import Job, VideoSpec
from video_jobs.store import JobStore

CLOCK = keys.TAG + "test-clock"
REAL_CLOCK = "redis.call('TIME')"
TEST_CLOCK = f"redis.call('HMGET', '{CLOCK}', 's', 'us')"


class ClockedStore(JobStore):
    """The product's scripts and the product's calls; only what TIME answers is decided by the test."""

    def __init__(self, redis: "Redis", bug: str = "") -> None:
        super().__init__(redis)
        self.arrives_twice = False
        sources = script_sources(bug)
        if not any(REAL_CLOCK in source for source in sources.values()):
            raise RuntimeError("the scripts ask for the time in another way than this test knows")
        self._scripts = {
            name: redis.register_script(source.replace(REAL_CLOCK, TEST_CLOCK)) for name, source in sources.items()
        }

    async def set_clock(self, now_ms: int) -> None:
        await self.redis.hset(CLOCK, mapping={"s": now_ms // 1000, "us": now_ms % 1000 * 1000})  # type: ignore[misc]

    async def _run(self, script: str, *args: Any, **named: Any) -> Any:
        answer = await super()._run(script, *args, **named)
        is_again, self.arrives_twice = self.arrives_twice, False
        if is_again:
            again = await super()._run(script, *args, **named)
            assert again == answer, f"{script} answered {answer}, and the second time {again}"
        return answer


@cache
def _spec() -> VideoSpec:
    return VideoSpec(model="cogvideox-2", prompt="a cat", width=720, height=480, fps=30, duration_s=5, seed=1)


@cache
def _plan() -> Any:
    return load_catalogue().plan(_spec(), "tiny")


def made_job(job_id: str, request_id: str, body_hash: str, limits_ms: tuple[int, int] = (0, 0)) -> Job:
    names = {"tenant": "acme", "key_id": "key", "route": "tiny", "cost_s": 1.0, "spec": _spec(), "plan": _plan()}
    limits = {"start_within_s": limits_ms[0] / 1000, "run_limit_s": limits_ms[1] / 1000}
    return Job.model_validate({"id": job_id, "request_id": request_id, "body_hash": body_hash} | names | limits)


@dataclass
class SeenJob:
    state: str
    token: str
    cancel: bool
    is_deleted: bool
    checkpoint: str
    counters: dict[str, int]
    attempts: list[list[str]]


@dataclass
class Seen:
    jobs: dict[str, SeenJob]
    leases: dict[str, int]
    delayed: dict[str, int]
    deadlines: dict[str, int]
    ended: set[str]
    waiting: set[str]
    dead: set[str]
    audit: dict[str, list[str]]
    audit_numbers: list[int]


async def observed(redis: "Redis") -> Seen:
    """Everything of the scripts that anybody could ask for."""
    async with redis.pipeline() as pipe:
        pipe.keys(keys.JOB + "*")
        pipe.keys(keys.WAITING + "*")
        pipe.zrange(keys.LEASES, 0, -1, withscores=True)
        pipe.zrange(keys.schedule("delayed"), 0, -1, withscores=True)
        pipe.zrange(keys.schedule("deadlines"), 0, -1, withscores=True)
        pipe.zrange(keys.schedule("ended"), 0, -1)
        pipe.zrange(keys.DEAD, 0, -1)
        pipe.lrange(keys.AUDIT, 0, -1)
        job_keys, lines, leases, delayed, deadlines, ended, dead, audit = await pipe.execute()
    ids = [name.decode().removeprefix(keys.JOB) for name in job_keys]
    async with redis.pipeline() as pipe:
        for job_id in ids:
            pipe.hgetall(keys.job(job_id))
            pipe.lrange(keys.attempts(job_id), 0, -1)
        for line in lines:
            pipe.zrange(line, 0, -1)
        answers = await pipe.execute()
    events: dict[str, list[str]] = defaultdict(list)
    records = [json.loads(line) for line in audit]
    for record in records:
        events[record["task_id"]].append(record["event"])
    pairs = zip(ids, answers[0 : 2 * len(ids) : 2], answers[1 : 2 * len(ids) : 2], strict=True)
    return Seen(
        jobs={job_id: _seen(fields, attempts) for job_id, fields, attempts in pairs},
        leases=_times(leases),
        delayed=_times(delayed),
        deadlines=_times(deadlines),
        ended={job_id.decode() for job_id in ended},
        waiting={job_id.decode() for line in answers[2 * len(ids) :] for job_id in line},
        dead={job_id.decode() for job_id in dead},
        audit=events,
        audit_numbers=[record["seq"] for record in records],
    )


def _times(found: list[tuple[bytes, float]]) -> dict[str, int]:
    return {job_id.decode(): int(when) for job_id, when in found}


def _seen(fields: dict[bytes, bytes], attempts: list[bytes]) -> SeenJob:
    held = {name.decode(): value.decode() for name, value in fields.items()}
    parsed = [json.loads(attempt) for attempt in attempts]
    return SeenJob(
        state=held["state"],
        token=held.get("token", ""),
        cancel="cancel" in held,
        is_deleted="deleted_ms" in held,
        checkpoint=held.get("checkpoint", ""),
        counters={name: int(held.get(name, 0)) for name in ("failed_attempts", "engine_deaths", "lost_leases")},
        attempts=[[attempt["token"], attempt.get("ended_by") or ""] for attempt in parsed],
    )
