"""One walk over the real scripts with the model beside it: what rules and schedules are made of."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from redis.asyncio import Redis

from tests.faults.model import FINAL, LEASE_MS, Model
from tests.faults.scripts import ClockedStore, made_job, observed
from video_jobs.job import Claim, JobState, Outcome
from video_jobs.verdicts import Charge, Verdict

MOST_JOBS = 8
T = TypeVar("T")


def checkpoint_key(claim: Claim) -> str:
    return f"checkpoints/{claim.token}"


class JobWalk(RuleBasedStateMachine):
    """Many callers, two workers, one Redis; `claims` remembers every token that was ever given, stale ones too."""

    url: ClassVar[str] = ""
    loop: ClassVar[asyncio.AbstractEventLoop]
    events: ClassVar[Counter[str]] = Counter()
    steps: ClassVar[int] = 0
    bug: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self.redis = Redis.from_url(self.url)
        self.run(self.redis.flushall())
        self.store = ClockedStore(self.redis, self.bug)
        self.model = Model(now=10**12)
        self.claims: list[Claim] = []
        self.held: dict[str, tuple[str, str]] = {}
        self.made = 0
        self.pass_time(0)
        self.reap()

    def teardown(self) -> None:
        self.run(self.redis.aclose())

    def run(self, call: Awaitable[T]) -> T:
        return self.loop.run_until_complete(call)  # type: ignore[arg-type]

    def pass_time(self, ms: int) -> None:
        self.model.now += ms
        self.run(self.store.set_clock(self.model.now))

    def twice(self, arrives_twice: bool) -> None:
        """The next script's answer is lost and asked for again: it must be the same."""
        self.store.arrives_twice = arrives_twice
        self.events["arrived twice"] += arrives_twice

    @property
    def has_room(self) -> bool:
        return len(self.model.jobs) < MOST_JOBS

    @rule()
    def reap(self) -> None:
        assert sorted(self.run(self.store.reap())) == sorted(self.model.reap())

    @invariant()
    def what_redis_holds_is_what_the_model_holds(self) -> None:
        type(self).steps += 1
        held = self.run(observed(self.redis))
        assert held.jobs.keys() == self.model.jobs.keys()
        for job_id, job in self.model.jobs.items():
            seen = held.jobs[job_id]
            assert (seen.state, seen.token or "") == (job.state, job.token)
            assert (seen.cancel, seen.is_deleted, seen.checkpoint) == (job.cancel, job.is_deleted, job.checkpoint)
            assert seen.counters == job.counters, f"{seen.counters} != {job.counters}"
            assert seen.attempts == job.attempts, f"{seen.attempts} != {job.attempts}"
            assert held.audit[job_id] == job.audit, f"{held.audit[job_id]} != {job.audit}"
            assert held.leases.get(job_id) == job.lease_until
            assert held.delayed.get(job_id) == job.delayed_until
            assert held.deadlines.get(job_id) == job.deadline
            assert (job_id in held.waiting) == (job_id in self.model.in_line())
            assert (job_id in held.dead) == bool(job.ended_as)
            assert (job_id in held.ended) == (job.state in FINAL)
        assert held.audit_numbers == list(range(1, 1 + len(held.audit_numbers)))

    # What several rules do, and the schedules of mutants.py.

    def new_claim(self, limits_ms: tuple[int, int] = (0, 0)) -> Claim:
        if not self.model.in_line():
            self.new_job(limits_ms)
        claim = self.claim_as("w1")
        assert claim is not None
        return claim

    def retry_as(self, job_id: str) -> str:
        answer = self.model.retry(job_id)
        assert self.run(self.store.retry(job_id, "operator")) == answer
        return answer

    def admit_as(self, request: str, body: str) -> str:
        job_id = self._new_id()
        self.admit_job(request, body, job_id)
        return job_id

    def accept_as(self, job_id: str) -> str:
        return self.accept_job(job_id)

    def _new_id(self) -> str:
        self.made += 1
        return f"{self.made:025d}"

    def new_job(self, limits_ms: tuple[int, int] = (0, 0)) -> str:
        job_id = self.admit_as(f"new-{self.made}", "a")
        return self.accept_job(job_id, limits_ms)

    def admit_job(self, request: str, body: str, job_id: str) -> tuple[str, str]:
        got = self.run(self.store.admit("acme", request, body, job_id))
        expected = self.model.admit(request, body, job_id)
        assert (got.verdict.value, got.job_id) == expected
        if got.verdict is Verdict.NEW:
            self.held[job_id] = (request, body)
        return expected

    def accept_job(self, job_id: str, limits_ms: tuple[int, int] = (0, 0)) -> str:
        request, body = self.held.pop(job_id)
        winner = self.run(self.store.accept(made_job(job_id, request, body, limits_ms)))
        assert winner == self.model.accept(request, body, job_id, limits_ms)
        return winner

    def cancel_as(self, job_id: str) -> None:
        assert self.run(self.store.cancel("acme", job_id)) == self.model.cancel(job_id)

    def claim_as(self, worker: str) -> Claim | None:
        claim = self.run(self.store.claim(worker, ["tiny"]))
        if claim is None:
            assert self.model.is_paused or not self.model.in_line(), "a job in line was not handed out"
            return None
        self.model.claim(*claim)
        self.claims.append(claim)
        return claim

    def hold_as(self, claim: Claim, what: str) -> str:
        if what == "beat":
            got, expected = self.run(self.store.beat(claim)), self.model.beat(*claim)
        elif what == "report":
            got, expected = self.run(self.store.prepared(claim, "a cat", "model")), self.model.hold(*claim)
        else:
            key, step = checkpoint_key(claim), 3
            got = self.run(self.store.checkpointed(claim, key, step))
            expected = self.model.checkpointed(*claim, key, step)
        assert got.value == expected
        return expected

    def finish_as(self, claim: Claim, state: str) -> bool:
        code = {"failed": "engine_fault", "cancelled": "cancelled"}.get(state)
        outcome = Outcome(state=JobState(state), error_code=code, error_message=code and f"of {claim.token}")
        published = self.run(self.store.finish(claim, outcome))
        assert published == self.model.finish(*claim, state, outcome.model_dump_json())
        return published

    def requeue_as(self, claim: Claim, charge: Charge) -> str:
        why = {Charge.FREE: "drained", Charge.ATTEMPT: "encode_failed", Charge.ENGINE_DEATH: "engine_died"}[charge]
        how = self.run(self.store.requeue(claim, why, charge)).value
        assert how == self.model.requeue(*claim, why, charge.value)
        return how

    def _running(self, data: st.DataObject) -> Claim:
        if not self.model.in_state("running"):
            if not self.model.in_line():
                self.new_job()
            self.claim_as("w1")
        job_id = data.draw(st.sampled_from(self.model.in_state("running")))
        return Claim(job_id, self.model.jobs[job_id].token)

    def _unlimited(self) -> list[str]:
        return [job_id for job_id in self.model.in_state("running") if self.model.jobs[job_id].deadline is None]

    def _stale(self) -> list[Claim]:
        return [claim for claim in self.claims if self.model.jobs[claim.job_id].token != claim.token]

    def lose_lease(self, claim: Claim) -> None:
        """Time passes with a living reaper, and this one job is not beaten."""
        for _ in range(6):
            self.pass_time(LEASE_MS // 5)
            for other in [c for c in self.claims if c.job_id != claim.job_id and self.model.hold(*c) != "lost"]:
                self.hold_as(other, "beat")
            self.reap()

    def _past_deadline(self, job_id: str) -> None:
        job = self.model.jobs[job_id]
        for _ in range(10):
            self.pass_time(LEASE_MS // 5)
            if job.state == "running":
                self.hold_as(Claim(job_id, job.token), "beat")
            self.reap()
        assert job.state == "failed"
