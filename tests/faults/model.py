"""The job machine in plain Python: what every script must answer and leave behind. It knows no Redis and no Lua."""

from dataclasses import dataclass, field

LEASE_MS, GAP_MS, RESERVE_MS, RETRY_MS = 15_000, 5_000, 60_000, 2_000
CHARGE_LIMITS = {"attempt": 5, "engine_death": 3}
COUNTERS = {"attempt": "failed_attempts", "engine_death": "engine_deaths"}
MAX_LOST_LEASES = 5
FINAL = ("succeeded", "failed", "cancelled")


@dataclass
class Reservation:
    job_id: str
    body: str
    until: int
    is_accepted: bool = False


@dataclass
class ModelJob:
    request: str
    start_within_ms: int = 0
    run_limit_ms: int = 0
    state: str = "queued"
    token: str = ""
    lease_until: int | None = None
    delayed_until: int | None = None
    deadline: int | None = None
    has_started: bool = False
    cancel: bool = False
    is_deleted: bool = False
    outcome: str = ""
    checkpoint: str = ""
    furthest_step: int = 0
    ended_as: str = ""
    counters: dict[str, int] = field(
        default_factory=lambda: {"failed_attempts": 0, "engine_deaths": 0, "lost_leases": 0}
    )
    attempts: list[list[str]] = field(default_factory=list)
    """Token and how it ended; empty while it runs."""

    audit: list[str] = field(default_factory=lambda: ["accepted"])
    # What the answers of earlier calls were, for calls that arrive again.
    handed_on_as: str = ""
    was_cancelled_in_line: bool = False


class Model:
    def __init__(self, now: int) -> None:
        self.now, self.reaped = now, 0
        self.jobs: dict[str, ModelJob] = {}
        self.is_paused = False
        self.requests: dict[str, Reservation] = {}

    def in_state(self, *states: str) -> list[str]:
        return [job_id for job_id, job in self.jobs.items() if job.state in states]

    def in_line(self) -> list[str]:
        return [job_id for job_id, job in self.jobs.items() if job.state == "queued" and job.delayed_until is None]

    def admit(self, request: str, body: str, job_id: str) -> tuple[str, str]:
        known = self.requests.get(request)
        if known and (known.is_accepted or known.until > self.now):
            if known.body != body:
                return "conflict", known.job_id
            if known.is_accepted:
                return "replay", known.job_id
            return "new" if known.job_id == job_id else "pending", known.job_id
        self.requests[request] = Reservation(job_id, body, self.now + RESERVE_MS)
        return "new", job_id

    def accept(self, request: str, body: str, job_id: str, limits_ms: tuple[int, int] = (0, 0)) -> str:
        if job_id in self.jobs:
            return job_id
        known = self.requests.get(request)
        if known and known.is_accepted:
            return known.job_id if known.body == body else ""
        self.requests[request] = Reservation(job_id, body, self.now, is_accepted=True)
        job = self.jobs[job_id] = ModelJob(request, *limits_ms)
        job.deadline = self.now + job.start_within_ms if job.start_within_ms else None
        return job_id

    def release(self, request: str, job_id: str) -> None:
        known = self.requests.get(request)
        if known and known.job_id == job_id and not known.is_accepted:
            del self.requests[request]

    def claim(self, chosen: str, token: str) -> None:
        """Which of the jobs in line comes first is the fair order's business, and tested there."""
        job = self.jobs[chosen]
        assert chosen in self.in_line(), f"{chosen} was claimed while {job.state}"
        assert not self.is_paused
        assert token not in [used for other in self.jobs.values() for used, _ in other.attempts]
        job.state, job.token, job.lease_until, job.handed_on_as = "running", token, self.now + LEASE_MS, ""
        if not job.has_started:
            job.has_started = True
            job.deadline = self.now + job.run_limit_ms if job.run_limit_ms else None
        job.attempts.append([token, ""])
        job.audit.append("claimed")

    def hold(self, job_id: str, token: str) -> str:
        job = self.jobs[job_id]
        if job.token != token or job.state != "running":
            return "lost"
        return "cancel" if job.cancel else "held"

    def beat(self, job_id: str, token: str) -> str:
        held = self.hold(job_id, token)
        if held != "lost":
            self.jobs[job_id].lease_until = self.now + LEASE_MS
        return held

    def checkpointed(self, job_id: str, token: str, key: str, step: int) -> str:
        """Only a job that got further than ever before has earned a new count of lost leases."""
        held, job = self.hold(job_id, token), self.jobs[job_id]
        if held != "lost":
            job.checkpoint = key
            if step > job.furthest_step:
                job.furthest_step, job.counters["lost_leases"] = step, 0
        elif job.checkpoint == key:
            return "held"
        return held

    def finish(self, job_id: str, token: str, state: str, outcome: str) -> bool:
        job = self.jobs[job_id]
        if job.token != token:
            return False
        if job.state in FINAL:
            return job.outcome == outcome
        job.outcome = outcome
        job.attempts[-1][1] = state
        self._end(job, state)
        return True

    def requeue(self, job_id: str, token: str, why: str, charge: str) -> str:
        job = self.jobs[job_id]
        if job.token != token:
            return "lost"
        if job.state != "running":
            return job.handed_on_as or "lost"
        if charge in COUNTERS:
            job.counters[COUNTERS[charge]] += 1
        is_spent = charge in COUNTERS and job.counters[COUNTERS[charge]] >= CHARGE_LIMITS[charge]
        code = "poison" if charge == "engine_death" else why
        pause_ms = RETRY_MS * 2 ** (job.counters["failed_attempts"] - 1) if charge == "attempt" else 0
        job.handed_on_as = self._condemn(job, code) if is_spent else self._hand_on(job, why, int(pause_ms))
        return job.handed_on_as

    def cancel(self, job_id: str) -> str:
        job = self.jobs.get(job_id)
        if job is None:
            return "unknown"
        if job.was_cancelled_in_line:
            return "cancelled"
        if job.state in FINAL:
            return "final"
        if not job.cancel:
            job.cancel = True
            job.audit.append("cancel asked")
        if job.state == "queued":
            job.was_cancelled_in_line = True
            self._end(job, "cancelled")
            return "cancelled"
        return "asked"

    def retry(self, job_id: str) -> str:
        job = self.jobs[job_id]
        if job.state != "failed" or job.is_deleted:
            return "not failed"
        job.state, job.token, job.outcome, job.ended_as, job.handed_on_as = "queued", "", "", "", ""
        job.counters = dict.fromkeys(job.counters, 0)
        job.has_started = job.cancel = False
        job.checkpoint, job.furthest_step = "", 0
        job.deadline = self.now + job.start_within_ms if job.start_within_ms else None
        job.audit.append("retried")
        return "queued"

    def forget(self, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.state not in FINAL:
            return False
        if not job.is_deleted:
            job.is_deleted = True
            job.audit.append("result deleted")
        return True

    def reap(self) -> list[str]:
        before, self.reaped = self.reaped, self.now
        running = [(job_id, job) for job_id, job in self.jobs.items() if job.lease_until is not None]
        if self.now - before > GAP_MS:
            self._extend([job for _, job in running], self.now - before)
            return []
        if before - self.now > GAP_MS:
            self._take_back(before)
        ended = [(job_id, job) for job_id, job in running if (job.lease_until or 0) <= self.now]
        for _, job in ended:
            job.counters["lost_leases"] += 1
            if job.counters["lost_leases"] >= MAX_LOST_LEASES:
                self._condemn(job, "poison")
            else:
                self._hand_on(job, "lease lost")
        late = self._end_late()
        for job in self.jobs.values():
            if job.delayed_until is not None and job.delayed_until <= self.now:
                job.delayed_until = None
        return [job_id for job_id, _ in ended] + late

    def _extend(self, running: list[ModelJob], away_ms: int) -> None:
        for job in running:
            ends = job.lease_until or 0
            job.lease_until = max(ends, min(ends + away_ms, self.now + LEASE_MS))
            job.audit.append("lease extended")
            if job.deadline is not None:
                job.deadline = max(job.deadline, self.now + LEASE_MS)

    def _end_late(self) -> list[str]:
        late = [job_id for job_id, job in self.jobs.items() if job.deadline is not None and job.deadline <= self.now]
        for job in map(self.jobs.__getitem__, late):
            if job.cancel:
                self._hand_on(job, "run_too_long")
                continue
            if job.state == "running":
                job.attempts[-1][1] = "run_too_long"
            self._end(job, "failed")
        return late

    def _take_back(self, before: int) -> None:
        """The clock went back: leases given by the old clock would outlive their workers by the whole step."""
        back = before - self.now
        for job in self.jobs.values():
            if (job.lease_until or 0) > before:
                job.lease_until = self.now + LEASE_MS
                job.audit.append("lease shortened")
            if (job.delayed_until or 0) > before:
                job.delayed_until = (job.delayed_until or 0) - back

    def _hand_on(self, job: ModelJob, why: str, pause_ms: int = 0) -> str:
        job.attempts[-1][1] = why
        job.lease_until = None
        if job.cancel:
            self._end(job, "cancelled")
            return "cancelled"
        job.state = "queued"
        job.delayed_until = self.now + pause_ms if pause_ms else None
        job.audit.append("requeued")
        return "queued"

    def _condemn(self, job: ModelJob, code: str) -> str:
        if job.cancel:
            return self._hand_on(job, code)
        job.attempts[-1][1] = code
        self._end(job, "failed")
        job.ended_as = code
        return "failed"

    def _end(self, job: ModelJob, state: str) -> None:
        job.state, job.lease_until, job.delayed_until, job.deadline = state, None, None, None
        job.audit.append(state)
