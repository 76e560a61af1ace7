"""Seeded bugs of the scripts: what each line of defence is worth is shown by taking it away.

A bug is one line of one script, and the shortest schedule that tells the scripts and the model apart.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from video_jobs.store import _PRELUDE
from video_jobs.verdicts import Charge

if TYPE_CHECKING:
    from tests.faults.rules import JobMachine

SCRIPTS = Path(__file__).parents[2] / "video_jobs" / "scripts"
MINUTE_MS = 60_000


class Mutant(NamedTuple):
    script: str
    right: str
    wrong: str
    schedule: "Callable[[JobMachine], object]"


def script_sources(bug: str = "") -> dict[str, str]:
    """The scripts as the store registers them, one of them with this bug if one is named."""
    texts = {path.stem: path.read_text() for path in SCRIPTS.glob("*.lua")}
    if bug:
        mutant = MUTANTS[bug]
        if mutant.right not in texts[mutant.script]:
            raise RuntimeError(f"{bug}: {mutant.script}.lua has no {mutant.right!r}")
        texts[mutant.script] = texts[mutant.script].replace(mutant.right, mutant.wrong, 1)
    prelude = "".join(texts.pop(name) for name in _PRELUDE)
    return {name: prelude + text for name, text in texts.items()}


def stale_finish(m: "JobMachine") -> None:
    zombie = m.new_claim()
    m.lose_lease(zombie)
    m.claim_as("w2")
    m.finish_as(zombie, "succeeded")


def stale_beat(m: "JobMachine") -> None:
    zombie = m.new_claim()
    m.lose_lease(zombie)
    m.claim_as("w2")
    m.hold_as(zombie, "beat")


def late_finish(m: "JobMachine") -> None:
    claim = m.new_claim()
    m.lose_lease(claim)
    m.finish_as(claim, "succeeded")


def outage(m: "JobMachine") -> None:
    m.new_claim()
    m.pass_time(MINUTE_MS)
    m.reap()


def beaten_and_reaped(m: "JobMachine") -> None:
    claim = m.new_claim()
    m.reap()
    m.pass_time(5_000)
    m.hold_as(claim, "beat")
    m.reap()


def requeue_twice(m: "JobMachine") -> None:
    claim = m.new_claim()
    m.twice(True)
    m.requeue_as(claim, Charge.ENGINE_DEATH)


def drained(m: "JobMachine") -> None:
    m.requeue_as(m.new_claim(), Charge.FREE)


def finished(m: "JobMachine") -> None:
    m.finish_as(m.new_claim(), "succeeded")


def accept_twice(m: "JobMachine") -> None:
    job_id = m.admit_as("r", "a")
    m.twice(True)
    m.accept_as(job_id)


def overtaken(m: "JobMachine") -> None:
    slow = m.admit_as("r", "a")
    m.pass_time(61_000)
    m.accept_as(m.admit_as("r", "a"))
    m.accept_as(slow)


def two_bodies(m: "JobMachine") -> None:
    m.accept_as(m.admit_as("r", "a"))
    m.admit_as("r", "b")


def pending_copies(m: "JobMachine") -> None:
    m.admit_as("r", "a")
    m.admit_as("r", "a")


def claim_after_claim(m: "JobMachine") -> None:
    m.new_claim()
    m.claim_as("w2")


def claim_twice(m: "JobMachine") -> None:
    m.new_job()
    m.new_job()
    m.twice(True)
    m.claim_as("w1")


def cancelled_and_drained(m: "JobMachine") -> None:
    claim = m.new_claim()
    m.cancel_as(claim.job_id)
    m.requeue_as(claim, Charge.FREE)


def cancelled_after_the_end(m: "JobMachine") -> None:
    claim = m.new_claim()
    m.finish_as(claim, "succeeded")
    m.cancel_as(claim.job_id)


def engine_deaths(m: "JobMachine") -> None:
    for _ in range(3):
        m.requeue_as(m.new_claim(), Charge.ENGINE_DEATH)


def lost_leases(m: "JobMachine") -> None:
    for _ in range(5):
        m.lose_lease(m.new_claim())


def lost_leases_at_one_step(m: "JobMachine") -> None:
    for _ in range(5):
        claim = m.new_claim()
        m.hold_as(claim, "checkpoint")
        m.lose_lease(claim)


def told_again(m: "JobMachine") -> None:
    claim = m.new_claim()
    m.hold_as(claim, "checkpoint")
    m.lose_lease(claim)
    m.hold_as(claim, "checkpoint")


def clock_back(m: "JobMachine") -> None:
    m.new_claim()
    m.reap()
    m.pass_time(-60 * MINUTE_MS)
    m.reap()


def retried(m: "JobMachine") -> None:
    claim = m.new_claim()
    m.finish_as(claim, "failed")
    m.retry_as(claim.job_id)
    m.finish_as(claim, "succeeded")


def held_back(m: "JobMachine") -> None:
    m.requeue_as(m.new_claim(), Charge.ATTEMPT)
    m.claim_as("w2")


def ran_too_long(m: "JobMachine") -> None:
    claim = m.new_claim(limits_ms=(0, 20_000))
    for _ in range(6):
        m.pass_time(4_500)
        m.hold_as(claim, "beat")
        m.reap()


def paused(m: "JobMachine") -> None:
    m.new_job()
    m.pause()


IS_TOKEN = "if get(id, 'token') ~= ARGV[2] then return "
MUTANTS: dict[str, Mutant] = {
    "finish without its fence": Mutant("finish", IS_TOKEN + "0 end", "", stale_finish),
    "beat without its fence": Mutant("house", "get(id, 'token') == token and ", "", stale_beat),
    "finished work thrown away": Mutant("finish", " and state ~= 'queued'", "", late_finish),
    "no gap rule": Mutant("reap", "if now - before > tonumber(ARGV[2]) then", "if false then", outage),
    "an outage extends nothing": Mutant("reap", "held[at + 1] + now - before", "held[at + 1]", outage),
    "leases by a host's clock": Mutant(
        "reap", "local before =", "now = now + 3600000\nlocal before =", beaten_and_reaped
    ),
    "requeue twice counts twice": Mutant(
        *("requeue", "if get(id, 'state') ~= 'running' then return get(id, 'handed_on_as') or 'lost' end", ""),
        requeue_twice,
    ),
    "a drain is charged": Mutant(
        "requeue", "local counters = {", "local counters = {free = 'failed_attempts', ", drained
    ),
    "the end is not audited": Mutant("house", "  audit(id, state, code)\n", "", finished),
    "audit numbers with gaps": Mutant("house", "seq = redis.call('INCR', AUDIT_SEQ)", "seq = now", finished),
    "accept twice, job twice": Mutant(
        "accept", "if redis.call('EXISTS', JOB .. id) == 1 then return id end", "", accept_twice
    ),
    "an overtaken accept goes through": Mutant(
        "accept", "if known[3] and known[1] ~= id then", "if false then", overtaken
    ),
    "a request id for any body": Mutant("admit", "if known[2] ~= ARGV[2] then", "if false then", two_bodies),
    "two copies admitted at once": Mutant("admit", "known[1] == id and 'new' or 'pending'", "'new'", pending_copies),
    "a claimed job stays in line": Mutant("claim", "start_turn(id)\n", "", claim_after_claim),
    "a claim asked twice takes two": Mutant("claim", "if before then", "if false then", claim_twice),
    "cancel forgotten on drain": Mutant(
        "house", "  if get(id, 'cancel') then", "  if false then", cancelled_and_drained
    ),
    "cancel wins over what has ended": Mutant(
        *("cancel", "if state ~= 'queued' and state ~= 'running' then return 'final' end", ""),
        cancelled_after_the_end,
    ),
    "no verdict on engine killers": Mutant("requeue", "spent >= tonumber(ARGV[5])", "false", engine_deaths),
    "no verdict on worker killers": Mutant("reap", ">= tonumber(ARGV[4])", ">= 1e9", lost_leases),
    "any checkpoint is progress": Mutant(
        "checkpointed", "if tonumber(ARGV[4]) > ", "if 1e9 > ", lost_leases_at_one_step
    ),
    "a checkpoint told again is lost": Mutant(
        "checkpointed", "elseif get(ARGV[1], 'checkpoint') == ARGV[3] then", "elseif false then", told_again
    ),
    "orphans wait for the clock": Mutant("reap", "if back > tonumber(ARGV[2]) then", "if false then", clock_back),
    "a retried job keeps its token": Mutant("retry", "'token', ", "", retried),
    "no pause after a failure": Mutant("house", "if (pause_ms or 0) > 0 then", "if false then", held_back),
    "no run limit": Mutant("house", "if ms > 0 then", "if false then", ran_too_long),
    "a paused queue goes on": Mutant(
        *("claim", "redis.call('HEXISTS', PAUSED, '*') + redis.call('HEXISTS', PAUSED, route) == 0", "true"),
        paused,
    ),
}
