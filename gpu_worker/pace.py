"""How long the steps of a render take: as predicted, until this worker has measured steps of such plans."""

import time
from dataclasses import dataclass, field

from gpu_worker.engine.protocol import Progress
from video_jobs.catalogue import Catalogue
from video_jobs.cost import stage_seconds
from video_jobs.job import RenderPlan, Stage

NEW_STEP_SHARE = 0.25


@dataclass
class Pace:
    """Of one worker. A child is hung when it is silent for `hang_factor` times what it should take now."""

    catalogue: Catalogue
    hang_factor: float
    hang_floor_s: float
    measured: dict[tuple[str, Stage], float] = field(default_factory=dict)
    """Seconds of a step, by plan and stage."""

    def watch(self, plan: RenderPlan) -> "Watch":
        return Watch(self, plan.digest(), stage_seconds(self.catalogue.checkpoints[plan.checkpoint], plan))

    def learn(self, key: tuple[str, Stage], step_s: float) -> None:
        before = self.measured.get(key, step_s)
        self.measured[key] = before + NEW_STEP_SHARE * (step_s - before)


class Watch:
    """Follows one render by what its child tells."""

    def __init__(self, pace: Pace, plan: str, predicted: dict[Stage, float]) -> None:
        self._pace, self._plan, self._predicted = pace, plan, predicted
        self._at: Progress | None = None
        self._since = time.monotonic()

    def note(self, told: Progress) -> float:
        """The share of the predicted seconds that lies behind."""
        now, before = time.monotonic(), self._at
        if before is not None and told.stage is before.stage and told.done > before.done:
            self._pace.learn((self._plan, told.stage), (now - self._since) / (told.done - before.done))
        self._at, self._since = told, now
        stages = list(self._predicted)
        behind = sum(self._predicted[stage] for stage in stages[: stages.index(told.stage)])
        within = self._predicted[told.stage] * told.done / max(1, told.total)
        return (behind + within) / sum(self._predicted.values())

    def step_s(self) -> float:
        """What the step that runs now should take."""
        return self._measured() or self._stage_s() / max(1, self._at.total if self._at else 1)

    def silence_s(self) -> float:
        """How long no news is no bad news. Before anything is measured a step may take as long as its whole stage."""
        return max(self._pace.hang_floor_s, self._pace.hang_factor * (self._measured() or self._stage_s()))

    def where(self) -> str:
        return f"{self._at.stage} {self._at.done} of {self._at.total}" if self._at else "the beginning"

    def _measured(self) -> float | None:
        return self._pace.measured.get((self._plan, self._at.stage)) if self._at else None

    def _stage_s(self) -> float:
        return self._predicted[self._at.stage] if self._at else max(self._predicted.values())
