"""Poison and its neighbours: how long until the verdict, and that nobody else pays."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

from tests.faults.callers import Callers
from tests.faults.checker import violations
from tests.faults.evidence import gather
from tests.faults.figures import percentile
from tests.faults.fleet import Fleet, Shape
from video_jobs.job import JobState


@dataclass
class Poisoned:
    """From a poisonous job's first start to its end."""

    verdicts_s: list[float]
    innocents: int
    innocents_failed: int
    violations: list[str]

    def row(self, name: str) -> str:
        worst = f"{max(self.verdicts_s):.1f} s" if self.verdicts_s else "–"
        middle = percentile(self.verdicts_s, 0.5)
        told = f"{middle:.1f} s / {worst} ({len(self.verdicts_s)})" if middle is not None else "–"
        return f"| {name} | {told} | {self.innocents_failed} of {self.innocents} |"


async def poison(folder: Path, shape: Shape, prompts: list[str], innocents: int) -> Poisoned:
    """All at once: the poisonous ones among the innocent."""
    async with Fleet(folder, shape) as fleet:
        callers = Callers(fleet.urls(), fleet.key, folder, 1, is_plain=True)
        tending = asyncio.create_task(fleet.tend())
        every, wanted = max(1, innocents // len(prompts)), []
        for number in range(innocents):
            wanted += [prompts[number // every]] if number % every == 0 and number // every < len(prompts) else []
            wanted.append("a cat")
        jobs = [callers.one_job(prompt, f"request-{number}") for number, prompt in enumerate(wanted)]
        ends = await asyncio.gather(*jobs)
        tending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tending
        await callers.close()
        evidence = await gather(fleet, folder)
    found = violations(evidence)
    guilty = [record for record in evidence.records.values() if record.job.spec.prompt != "a cat"]
    spared = [f"I5 {r.job.id} is {r.state}" for r in guilty if r.state is not JobState.FAILED]
    return Poisoned(
        verdicts_s=[((record.finished_ms or 0) - (record.started_ms or 0)) / 1000 for record in guilty],
        innocents=innocents,
        innocents_failed=sum(end != "SUCCESS" for end, prompt in zip(ends, wanted, strict=True) if prompt == "a cat"),
        violations=found + spared,
    )
