"""The real scripts against the plain model, under directed events: `python -P tests/faults/machine.py --least 1000`.

Redis's clock is the test's own here, so that hours pass in no time; every other line of the scripts is the product's.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

sys.path.insert(0, str(Path(__file__).parents[2]))

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis.asyncio import Redis

from cogvideox_server.redis import redis_binary
from tests.faults.model import FINAL, GAP_MS, LEASE_MS, Model
from tests.faults.scripts import ClockedStore, made_job, observed
from video_jobs.job import Claim, JobState, Outcome
from video_jobs.store import Charge, Verdict

EVENTS = (
    *("stall", "zombie", "ambiguous accept", "overtaken accept", "ambiguous claim", "arrived twice"),
    *("redis gap", "clock forward", "clock back", "late finish", "cancel against finish", "poison", "lost leases"),
    *("start too late", "run too long", "retried", "held back", "queue paused"),
)
HOUR_MS, MOST_JOBS = 3_600_000, 8
LIMITS_MS = [(0, 0), (0, 0), (30_000, 0), (0, 40_000)]
"""How late a job may start and how long it may run; 0 is for ever."""
REQUESTS, BODIES, WORKERS = ["r1", "r2", "r3"], ["a", "b"], ["w1", "w2"]
T = TypeVar("T")


class JobMachine(RuleBasedStateMachine):
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

    # The callers.

    @precondition(lambda self: self.has_room)
    @rule(request=st.sampled_from(REQUESTS), body=st.sampled_from(BODIES), again=st.booleans())
    def admit(self, request: str, body: str, again: bool) -> None:
        self.twice(again)
        self.admit_job(request, body, self._new_id())

    @precondition(lambda self: self.held)
    @rule(data=st.data(), again=st.booleans(), limits_ms=st.sampled_from(LIMITS_MS))
    def accept(self, data: st.DataObject, again: bool, limits_ms: tuple[int, int]) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.held)))
        self.twice(again)
        self.accept_job(job_id, limits_ms)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), again=st.booleans())
    def release(self, data: st.DataObject, again: bool) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.held)))
        self.twice(again)
        self.run(self.store.release("acme", self.held[job_id][0], job_id))
        self.model.release(self.held.pop(job_id)[0], job_id)

    @precondition(lambda self: self.has_room)
    @rule(body=st.sampled_from(BODIES))
    def ambiguous_accept(self, body: str) -> None:
        """The job is written, its answer lost; the caller asks again under the same request id."""
        request, first = f"lost-{self.made}", self._new_id()
        self.admit_job(request, body, first)
        assert self.accept_job(first) == first
        assert self.admit_job(request, body, self._new_id()) == ("replay", first)
        self.held[first] = (request, body)
        assert self.accept_job(first) == first
        self.events["ambiguous accept"] += 1

    @precondition(lambda self: self.has_room)
    @rule(bodies=st.tuples(st.sampled_from(BODIES), st.sampled_from(BODIES)))
    def overtaken_accept(self, bodies: tuple[str, str]) -> None:
        """A gateway sleeps past its reservation; another copy takes it over and wins."""
        request, slow, quick = f"slow-{self.made}", self._new_id(), self._new_id()
        self.admit_job(request, bodies[0], slow)
        self.pass_time(61_000)
        assert self.admit_job(request, bodies[1], quick) == ("new", quick)
        assert self.accept_job(quick) == quick
        assert self.accept_job(slow) == (quick if bodies[0] == bodies[1] else "")
        self.events["overtaken accept"] += 1

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), again=st.booleans())
    def cancel(self, data: st.DataObject, again: bool) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.model.jobs)))
        self.twice(again)
        assert self.run(self.store.cancel("acme", job_id)) == self.model.cancel(job_id)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), again=st.booleans())
    def forget(self, data: st.DataObject, again: bool) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.model.jobs)))
        self.twice(again)
        assert self.run(self.store.forget("acme", job_id)) == self.model.forget(job_id)

    @precondition(lambda self: self.model.in_state("failed"))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """An operator gives a failed job another life; nothing of its earlier one counts."""
        job_id = data.draw(st.sampled_from(self.model.in_state("failed")))
        self.events["retried"] += self.retry_as(job_id) == "queued"

    @precondition(lambda self: self.model.in_line())
    @rule()
    def pause(self) -> None:
        """A paused queue gives nothing out, takes everything in, and changes nothing that runs."""
        assert self.run(self.store.pause("*", "operator"))
        self.model.is_paused = True
        assert self.claim_as("w1") is None
        assert self.run(self.store.resume("*", "operator"))
        self.model.is_paused = False
        self.events["queue paused"] += 1

    @rule()
    def ask_for_what_is_not_mine(self) -> None:
        for job_id in (*list(self.model.jobs)[:1], "unknown"):
            assert self.run(self.store.cancel("another", job_id)) == "unknown"
            assert not self.run(self.store.forget("another", job_id))

    # The workers.

    @rule(worker=st.sampled_from(WORKERS), again=st.booleans())
    def claim(self, worker: str, again: bool) -> None:
        self.events["ambiguous claim"] += again and bool(self.model.in_state("queued"))
        self.twice(again)
        self.claim_as(worker)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), again=st.booleans(), what=st.sampled_from(["beat", "report", "checkpoint"]))
    def hold(self, data: st.DataObject, again: bool, what: str) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        self.twice(again)
        self.hold_as(claim, what)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), again=st.booleans(), state=st.sampled_from(["succeeded", "failed", "cancelled"]))
    def finish(self, data: st.DataObject, again: bool, state: str) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        self.twice(again)
        self.finish_as(claim, state)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), again=st.booleans(), charge=st.sampled_from(list(Charge)))
    def requeue(self, data: st.DataObject, again: bool, charge: Charge) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        self.twice(again)
        self.requeue_as(claim, charge)

    # Time and the reaper.

    @rule(ms=st.integers(0, 4000))
    def wait(self, ms: int) -> None:
        self.pass_time(ms)

    @rule()
    def reap(self) -> None:
        assert sorted(self.run(self.store.reap())) == sorted(self.model.reap())

    # The events that random steps find too seldom.

    @precondition(lambda self: self.has_room or self.model.in_state("running"))
    @rule(data=st.data())
    def stall(self, data: st.DataObject) -> None:
        """A worker stops for longer than its lease; the job goes to another, and the first one wakes."""
        claim = self._running(data)
        self.lose_lease(claim)
        if (other := self.claim_as("w-other")) is not None and self.model.jobs[claim.job_id].state == "running":
            assert other.token != claim.token
        self.events["stall"] += 1

    @precondition(lambda self: self._stale())
    @rule(
        data=st.data(),
        what=st.sampled_from(["finish", "failed", "beat", "report", "checkpoint", "drain", "death"]),
        again=st.booleans(),
    )
    def zombie(self, data: st.DataObject, what: str, again: bool) -> None:
        """Whatever a stale token asks for is refused and changes nothing."""
        claim = data.draw(st.sampled_from(self._stale()))
        self.twice(again)
        before = self.run(observed(self.redis))
        if what in ("finish", "failed"):
            assert self.finish_as(claim, "succeeded" if what == "finish" else "failed") is False
        elif what in ("drain", "death"):
            assert self.requeue_as(claim, Charge.FREE if what == "drain" else Charge.ENGINE_DEATH) == "lost"
        else:
            assert self.hold_as(claim, what) == "lost"
        assert self.run(observed(self.redis)) == before
        self.events["zombie"] += 1

    @precondition(lambda self: self.has_room or self.model.in_state("running"))
    @rule(data=st.data())
    def late_finish(self, data: st.DataObject) -> None:
        """The lease is lost, but nobody has claimed since: finished work is not thrown away."""
        claim = self._running(data)
        self.lose_lease(claim)
        if self.model.jobs[claim.job_id].state == "queued":
            assert self.finish_as(claim, "succeeded") is True
            self.events["late finish"] += 1

    @precondition(lambda self: self.has_room or self.model.in_state("running"))
    @rule(data=st.data(), finish_first=st.booleans())
    def cancel_against_finish(self, data: st.DataObject, finish_first: bool) -> None:
        claim = self._running(data)
        calls = [lambda: self.finish_as(claim, "succeeded"), lambda: self.cancel_as(claim.job_id)]
        for call in calls if finish_first else reversed(calls):
            call()
        assert self.model.jobs[claim.job_id].state == "succeeded"
        self.events["cancel against finish"] += 1

    @precondition(lambda self: self.has_room or self.model.in_line())
    @rule(data=st.data())
    def poison(self, data: st.DataObject) -> None:
        """A job kills every engine it meets; its neighbours are as they were."""
        job_id = data.draw(st.sampled_from(self.model.in_line() or [self.new_job()]))
        while self.model.jobs[job_id].state == "queued" and (claim := self.claim_as("w-doomed")) is not None:
            self.requeue_as(claim, Charge.ENGINE_DEATH if claim.job_id == job_id else Charge.FREE)
            if claim.job_id != job_id and not self.finish_as(claim, "succeeded"):
                break
        self.events["poison"] += self.model.jobs[job_id].ended_as == "poison"

    @precondition(lambda self: self.has_room or self.model.in_state("running"))
    @rule(data=st.data())
    def lost_leases(self, data: st.DataObject) -> None:
        """A job takes its whole worker down each time, until it is one time too many."""
        claim = self._running(data)
        job = self.model.jobs[claim.job_id]
        while job.state == "running":
            self.lose_lease(claim)
            while job.state == "queued" and (other := self.claim_as("w-doomed")) is not None:
                if other.job_id != claim.job_id:
                    self.finish_as(other, "succeeded")
        self.events["lost leases"] += job.ended_as == "poison"

    @precondition(lambda self: self.has_room)
    @rule()
    def start_too_late(self) -> None:
        """Nobody claims the job in its time."""
        self._past_deadline(self.new_job((20_000, 25_000)))
        self.events["start too late"] += 1

    @precondition(lambda self: self.has_room)
    @rule()
    def run_too_long(self) -> None:
        """Its worker beats and beats; when the time is over the job ends, and the token is worth nothing."""
        job_id = self.new_job((20_000, 25_000))
        while self.model.jobs[job_id].state == "queued":
            self.claim_as("w1")
        self._past_deadline(job_id)
        assert self.finish_as(Claim(job_id, self.model.jobs[job_id].token), "succeeded") is False
        self.events["run too long"] += 1

    def _past_deadline(self, job_id: str) -> None:
        job = self.model.jobs[job_id]
        for _ in range(10):
            self.pass_time(LEASE_MS // 5)
            if job.state == "running":
                self.hold_as(Claim(job_id, job.token), "beat")
            self.reap()
        assert job.state == "failed"

    @precondition(lambda self: self.has_room or self.model.in_state("running"))
    @rule(data=st.data())
    def held_back(self, data: st.DataObject) -> None:
        """A failed attempt pauses: nobody gets the job before, and it is in line soon after."""
        claim = self._running(data)
        if self.requeue_as(claim, Charge.ATTEMPT) == "queued":
            assert claim.job_id not in self.model.in_line()
            self.claim_as("w1")
            self.events["held back"] += 1

    @precondition(lambda self: self.has_room or self.model.in_state("running"))
    @rule(ms=st.integers(GAP_MS + 1, 10 * LEASE_MS))
    def redis_gap(self, ms: int) -> None:
        """Redis was away for longer than the leases: that is nobody's death."""
        running = self._unlimited()
        self.pass_time(ms)
        self.reap()
        assert set(running) <= set(self.model.in_state("running"))
        self.pass_time(LEASE_MS // 3)
        self.reap()
        assert set(running) <= set(self.model.in_state("running"))
        self.events["redis gap"] += 1

    @precondition(lambda self: self.has_room or self.model.in_state("running"))
    @rule(hours=st.integers(1, 48), forward=st.booleans())
    def clock_jump(self, hours: int, forward: bool) -> None:
        """The clock steps by hours: no live worker loses its job, and a dead one is found in its usual time."""
        self.reap()
        running = self._unlimited()
        self.pass_time(hours * HOUR_MS * (1 if forward else -1))
        self.reap()
        assert set(running) <= set(self.model.in_state("running"))
        for _ in range(4):
            self.pass_time(LEASE_MS // 3 + 100)
            self.reap()
        assert not set(running) & set(self.model.in_state("running"))
        self.events["clock forward" if forward else "clock back"] += 1

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
            key, step = f"checkpoints/{claim.token}", 3
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


@contextmanager
def private_redis() -> Iterator[str]:
    """A Redis that keeps nothing: here the scripts are on trial, not the disk."""
    with tempfile.TemporaryDirectory(prefix="machine-") as folder:
        path = Path(folder) / "redis.sock"
        args = [redis_binary(), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder]
        with subprocess.Popen(args, stdout=subprocess.DEVNULL) as process:
            try:
                while not path.exists():
                    time.sleep(0.02)
                yield f"unix://{path}"
            finally:
                process.terminate()


def explore(url: str, examples: int, chosen_seed: int, bug: str = "", steps: int = 30) -> Counter[str]:
    """So many examples; AssertionError, shrunk, where the scripts and the model part. How often each event came."""
    machine: Any = type("JobMachine", (JobMachine,), {"url": url, "bug": bug, "events": Counter(), "steps": 0})
    machine.loop = asyncio.new_event_loop()
    try:
        how = settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
            print_blob=False,
        )
        seed(chosen_seed)(machine)
        run_state_machine_as_test(machine, settings=how)
    finally:
        machine.loop.run_until_complete(machine.loop.shutdown_asyncgens())
        machine.loop.close()
    return machine.events + Counter(steps=machine.steps)


def follow(url: str, schedule: Callable[[JobMachine], object], bug: str = "") -> None:
    """One schedule, step by step; AssertionError where the scripts and the model part."""
    machine: Any = type("JobMachine", (JobMachine,), {"url": url, "bug": bug, "events": Counter(), "steps": 0})
    machine.loop = asyncio.new_event_loop()
    walk = machine()
    try:
        schedule(walk)
        walk.what_redis_holds_is_what_the_model_holds()
    finally:
        walk.teardown()
        machine.loop.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--least", type=int, default=1000, help="go on until every event came so often")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    counted: Counter[str] = Counter()
    number = args.seed
    with private_redis() as url:
        while min(counted[event] for event in EVENTS) < args.least:
            counted += explore(url, 100, number)
            number += 1
            print(f"seeds {args.seed} to {number - 1}: {dict(counted)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
