"""What callers, workers, time and faults do to jobs; the directed rules are what random steps find too seldom."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.faults.model import GAP_MS, LEASE_MS
from tests.faults.scripts import observed
from tests.faults.walk import JobWalk, checkpoint_key
from video_jobs.job import Claim
from video_jobs.verdicts import Charge

HOUR_MS = 3_600_000
LIMITS_MS = [(0, 0), (0, 0), (30_000, 0), (0, 40_000)]
"""How late a job may start and how long it may run; 0 is for ever."""
REQUESTS, BODIES, WORKERS = ["r1", "r2", "r3"], ["a", "b"], ["w1", "w2"]


class JobMachine(JobWalk):
    """Many callers, two workers, one Redis."""

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
    @rule(data=st.data(), again=st.booleans())
    def retry(self, data: st.DataObject, again: bool) -> None:
        """An operator gives a failed job another life; nothing of its earlier one counts."""
        job_id = data.draw(st.sampled_from(self.model.in_state("failed")))
        self.twice(again)
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
        self.twice(again)
        self.claim_as(worker)

    @precondition(lambda self: self.has_room or self.model.in_line())
    @rule()
    def ambiguous_claim(self) -> None:
        """The answer is lost, and the worker asks again: it gets the same job, and no second one."""
        if not self.model.in_line():
            self.new_job()
        self.twice(True)
        assert self.claim_as("w1") is not None
        self.events["ambiguous claim"] += 1

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
        """Whatever a stale token asks for changes nothing; all but a checkpoint that is on record is refused."""
        claim = data.draw(st.sampled_from(self._stale()))
        self.twice(again)
        before = self.run(observed(self.redis))
        if what in ("finish", "failed"):
            assert self.finish_as(claim, "succeeded" if what == "finish" else "failed") is False
        elif what in ("drain", "death"):
            assert self.requeue_as(claim, Charge.FREE if what == "drain" else Charge.ENGINE_DEATH) == "lost"
        else:
            on_record = what == "checkpoint" and self.model.jobs[claim.job_id].checkpoint == checkpoint_key(claim)
            assert self.hold_as(claim, what) == ("held" if on_record else "lost")
        assert self.run(observed(self.redis)) == before
        self.events["zombie"] += 1

    @precondition(lambda self: self.has_room or self.model.in_state("running"))
    @rule(data=st.data())
    def told_again(self, data: st.DataObject) -> None:
        """The answer to a checkpoint is lost, and so is the lease: told again, it is on record, and nothing changes."""
        claim = self._running(data)
        self.hold_as(claim, "checkpoint")
        self.lose_lease(claim)
        before = self.run(observed(self.redis))
        assert self.hold_as(claim, "checkpoint") == "held"
        assert self.run(observed(self.redis)) == before
        self.events["told again"] += 1

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
        """Redis goes away just before workers would beat, for longer than the leases: that is nobody's death."""
        for claim in [claim for claim in self.claims if self.model.hold(*claim) != "lost"]:
            self.hold_as(claim, "beat")
        self.pass_time(LEASE_MS // 3)
        self.reap()
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
        for _ in range(5):
            self.pass_time(LEASE_MS // 4)
            self.reap()
        assert not set(running) & set(self.model.in_state("running"))
        self.events["clock forward" if forward else "clock back"] += 1
