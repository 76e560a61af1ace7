"""The figures of one run, how runs add up, and the table they make."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.checker import Evidence
from video_jobs.job import JobState

ROOT = Path(__file__).parents[2]
PRODUCT = ("video_jobs", "server", "gpu_worker", "cogvideox_server")
NOTES = ("kill", "finish", "cont", "saved", "resumed")
REDIS_AWAY_MS = 10_000  # an outage that began so long before may still be felt
KILLED = ("gateway", "worker", "engine", "finisher", "redis")


@dataclass
class Figures:
    seeds: list[int]
    seconds: float
    lease_s: float
    products: list[str] = field(default_factory=lambda: [product_digest()])
    jobs: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    other_faults: dict[str, int] = field(default_factory=dict)
    unknown_answers: int = 0
    unavailable_answers: int = 0
    lost: int = 0
    doubled: int = 0
    zombies_refused: int = 0
    zombies_published: int = 0
    causeless_leases: int = 0
    """Lost beside a worker that nothing had struck and that could reach Redis."""

    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a reader should know besides: written by hand into a kept slice."""

    checkpoints: int = 0
    resumed: int = 0
    worker_found_s: list[float] = field(default_factory=list)
    worker_recovery_s: list[float] = field(default_factory=list)
    steady_recovery_s: list[float] = field(default_factory=list)
    """Of those, the jobs whose lease no outage of Redis extended meanwhile."""

    child_recovery_s: list[float] = field(default_factory=list)

    @property
    def all_kills(self) -> int:
        return sum(self.kills.values())

    def recovers_within(self, seconds: float) -> bool:
        found = percentile(self.steady_recovery_s, 0.99)
        return found is not None and found <= seconds

    def plus(self, other: "Figures") -> "Figures":
        """Two runs as one: numbers add, lists go on."""
        mine, theirs = asdict(self), asdict(other)
        added = {name: _sum(mine[name], theirs[name]) for name in mine if name not in ("lease_s", "products")}
        products = list(dict.fromkeys(self.products + other.products))
        return Figures(**added, lease_s=self.lease_s, products=products)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "Figures":
        return cls(**json.loads(path.read_text()))


def product_digest() -> str:
    """A short name of the product's very sources: which code the figures are of."""
    paths = sorted(path for name in PRODUCT for path in (ROOT / name).rglob("*.*") if path.suffix in (".py", ".lua"))
    whole = hashlib.sha256()
    for path in paths:
        whole.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()[:12]


def _sum(mine: Any, theirs: Any) -> Any:
    return dict(Counter(mine) + Counter(theirs)) if isinstance(mine, dict) else mine + theirs


def measure(evidence: Evidence, found: list[str], seed: int, seconds: float, lease_s: float) -> Figures:
    states = Counter(record.state for record in evidence.records.values())
    kills = [event for event in evidence.events if event["what"] == "kill"]
    others = Counter(_name(event) for event in evidence.events if event["what"] not in NOTES)
    zombies = {(event["job_id"], event["token"]) for event in evidence.events if not event.get("published", True)}
    return Figures(
        seeds=[seed],
        seconds=round(seconds),
        lease_s=lease_s,
        jobs=len(evidence.records),
        succeeded=states[JobState.SUCCEEDED],
        failed=states[JobState.FAILED],
        cancelled=states[JobState.CANCELLED],
        kills=dict(Counter(event["role"] for event in kills)),
        other_faults=dict(others),
        unknown_answers=sum("unknown" in line for line in evidence.history),
        unavailable_answers=sum(line.get("status") == 503 for line in evidence.history),
        lost=sum(line.startswith("I1") for line in found),
        doubled=sum("doubled" in line or "ended 2" in line for line in found),
        zombies_refused=len(zombies),
        zombies_published=sum(" published by " in line for line in found),
        causeless_leases=sum(1 for _ in lost_without_cause(evidence)),
        violations=found,
        checkpoints=sum(event["what"] == "saved" for event in evidence.events),
        resumed=sum(event["what"] == "resumed" for event in evidence.events),
        worker_found_s=sorted(_found(evidence, kills)),
        worker_recovery_s=sorted(_worker_recoveries(evidence, kills, {})),
        steady_recovery_s=sorted(_worker_recoveries(evidence, kills, _extensions(evidence))),
        child_recovery_s=sorted(_child_recoveries(evidence, kills)),
    )


def _name(event: dict[str, Any]) -> str:
    return f"link {event['do']}" if event["what"] == "link" else str(event["what"])


def _worker_recoveries(
    evidence: Evidence, kills: list[dict[str, Any]], extended: dict[str, list[int]]
) -> Iterator[float]:
    """Seconds from a worker's death to the next claim of every job it held, by the machine's one clock."""
    died = _deaths(kills)
    for job_id, record in evidence.records.items():
        for attempt, following in zip(record.attempts, record.attempts[1:], strict=False):
            at = died.get(int(attempt.worker.split(":")[1]))
            if at is None or not attempt.started_ms <= at <= (attempt.ended_ms or 0):
                continue
            if not any(at <= moment <= following.started_ms for moment in extended.get(job_id, ())):
                yield (following.started_ms - at) / 1000


def _found(evidence: Evidence, kills: list[dict[str, Any]]) -> Iterator[float]:
    """Seconds from a worker's death to the moment its jobs were handed on, whether or not anybody was free."""
    died = _deaths(kills)
    for record in evidence.records.values():
        for attempt in record.attempts:
            at = died.get(int(attempt.worker.split(":")[1]))
            if at is not None and attempt.ended_by == "lease lost" and attempt.started_ms <= at:
                yield ((attempt.ended_ms or 0) - at) / 1000


def lost_without_cause(evidence: Evidence) -> Iterator[str]:
    """Attempts whose lease was lost although their worker was neither killed nor asleep, nor Redis away from it."""
    struck: dict[int, list[float]] = {}
    redis_away: list[float] = []
    for event in evidence.events:
        if event.get("link") == "worker-redis" or (event["what"], event["role"]) == ("kill", "redis"):
            redis_away.append(event["t"])
        elif event["what"] in ("kill", "stop"):
            struck.setdefault(event.get("target_pid", event["pid"]), []).append(event["t"])
    for record in evidence.records.values():
        for attempt in record.attempts:
            moments = struck.get(int(attempt.worker.split(":")[1]), []) + redis_away
            if attempt.ended_by == "lease lost" and not any(
                attempt.started_ms - REDIS_AWAY_MS <= at <= (attempt.ended_ms or 0) for at in moments
            ):
                yield attempt.token


def _extensions(evidence: Evidence) -> dict[str, list[int]]:
    """When Redis, back from an outage, extended a job's lease by the time it was away."""
    found: dict[str, list[int]] = {}
    for line in evidence.audit:
        if line["event"] == "lease extended":
            found.setdefault(line["task_id"], []).append(line["at_ms"])
    return found


def _deaths(kills: list[dict[str, Any]]) -> dict[int, float]:
    return {event.get("target_pid", event["pid"]): event["t"] for event in kills if event["role"] == "worker"}


def _child_recoveries(evidence: Evidence, kills: list[dict[str, Any]]) -> Iterator[float]:
    for event in kills:
        record = evidence.records.get(event.get("job_id", "")) if event["role"] in ("engine", "finisher") else None
        for following in record.attempts if record else ():
            if following.started_ms > event["t"]:
                yield (following.started_ms - event["t"]) / 1000
                break


def percentile(values: list[float], share: float) -> float | None:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else None


def shown(values: list[float], share: float) -> str:
    found = percentile(values, share)
    return "–" if found is None else f"{found:.1f} s"


def table(figures: Figures, name: str) -> str:
    """Markdown: what was done to the house, and what came of it."""
    rule_of_three = f"{3 / figures.jobs:.1e} per job, {3 / max(1, figures.all_kills):.1e} per kill"
    rows = [
        ("seconds of faults", f"{figures.seconds:.0f}, in {len(figures.seeds)} run(s)"),
        ("seeds", ", ".join(map(str, figures.seeds))),
        ("digest of the product's sources", ", ".join(figures.products)),
        ("lease", f"{figures.lease_s:g} s"),
        ("jobs accepted", f"{figures.jobs:,}"),
        (
            "… succeeded, failed as they deserved, cancelled",
            f"{figures.succeeded:,}, {figures.failed}, {figures.cancelled}",
        ),
        ("kills (SIGKILL)", f"{figures.all_kills} ({', '.join(f'{figures.kills.get(k, 0)} {k}' for k in KILLED)})"),
        ("other faults", ", ".join(f"{count} {what}" for what, count in sorted(figures.other_faults.items()))),
        (
            "answers lost on the way; answers 503 with Retry-After",
            f"{figures.unknown_answers}, {figures.unavailable_answers}",
        ),
        ("**lost**", f"**{figures.lost}**"),
        ("**ended or published twice**", f"**{figures.doubled}**"),
        ("late results refused", f"{figures.zombies_refused}"),
        ("leases lost beside a worker that lived and had Redis", f"{figures.causeless_leases}"),
        ("violations of I1 to I9", f"{len(figures.violations)}"),
        ("checkpoints left; attempts that went on from one", f"{figures.checkpoints}; {figures.resumed}"),
        ("killed worker → its job back in line, p50 / p99", _both(figures.worker_found_s)),
        ("killed worker → job claimed again, p50 / p99", _both(figures.worker_recovery_s)),
        ("… of those whose lease no outage of Redis extended", _both(figures.steady_recovery_s)),
        ("killed child → job claimed again, p50 / p99", _both(figures.child_recovery_s)),
        ("what zero means (95 % upper bound)", rule_of_three),
    ]
    return f"| {name} | |\n|---|---|\n" + "\n".join(f"| {left} | {right} |" for left, right in rows)


def slices(kept: list[Figures]) -> str:
    """One line for each storm of a long run."""
    names = ("seed", "sources", "jobs", "kills", "lost", "doubled", "violations", "job claimed again, p50 / p99")
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|"
    rows = [
        f"| {one.seeds[0]} | {one.products[0]} | {one.jobs:,} | {one.all_kills} | {one.lost} | {one.doubled} "
        f"| {len(one.violations)} | {_both(one.worker_recovery_s)} |"
        for one in kept
    ]
    return "\n".join([head, *rows])


def kinds(violations: list[str]) -> str:
    """Contradictions that differ in their job alone, counted."""
    counted = Counter(re.sub(r"\d{20,}", "…", line) for line in violations)
    return "\n".join(f"- {count} × {line}" for line, count in counted.most_common(20))


def _both(values: list[float]) -> str:
    return f"{shown(values, 0.5)} / {shown(values, 0.99)} ({len(values)})"
