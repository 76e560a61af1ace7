"""What a step should take: predicted, then measured."""

import pytest

from gpu_worker import pace as pace_module
from gpu_worker.engine.protocol import Progress
from gpu_worker.pace import Pace, Watch
from video_jobs.catalogue import load_catalogue
from video_jobs.cost import stage_seconds
from video_jobs.job import RenderPlan, Stage, VideoSpec

CATALOGUE = load_catalogue()
FLOOR_S = 0.001


@pytest.fixture
def plan() -> RenderPlan:
    spec = VideoSpec(model="cogvideox-2", prompt="a cat", width=720, height=480, fps=30, duration_s=5, seed=1)
    return CATALOGUE.plan(spec, "tiny")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(pace_module.time, "monotonic", lambda: now[0])
    return now


def told(stage: Stage, done: int, total: int) -> Progress:
    return Progress(job_id="1", token="1:a", stage=stage, done=done, total=total)


def run_steps(watch: Watch, clock: list[float], step_s: float, steps: int = 5) -> None:
    for step in range(steps + 1):
        watch.note(told(Stage.DENOISE, step, 10))
        clock[0] += step_s


def test_unmeasured_stage_may_be_silent_for_a_multiple_of_its_prediction(plan: RenderPlan, clock: list[float]) -> None:
    watch = Pace(CATALOGUE, 10, FLOOR_S).watch(plan)
    predicted = stage_seconds(CATALOGUE.checkpoints["tiny"], plan)

    watch.note(told(Stage.DENOISE, 0, 10))

    assert watch.silence_s() == pytest.approx(10 * predicted[Stage.DENOISE])
    assert watch.step_s() == pytest.approx(predicted[Stage.DENOISE] / 10)


@pytest.mark.parametrize("step_s", [0.002, 50.0])
def test_measured_steps_correct_the_limit_for_this_render_and_the_next(
    step_s: float, plan: RenderPlan, clock: list[float]
) -> None:
    pace = Pace(CATALOGUE, 10, FLOOR_S)
    run_steps(pace.watch(plan), clock, step_s)

    following = pace.watch(plan)
    following.note(told(Stage.DENOISE, 0, 10))

    assert following.step_s() == pytest.approx(step_s)
    assert following.silence_s() == pytest.approx(10 * step_s)


def test_no_silence_shorter_than_the_floor_is_a_hang(plan: RenderPlan, clock: list[float]) -> None:
    watch = Pace(CATALOGUE, 10, 120).watch(plan)
    run_steps(watch, clock, 0.01)

    assert watch.silence_s() == 120


def test_other_plans_and_stages_are_judged_by_their_own_steps(plan: RenderPlan, clock: list[float]) -> None:
    pace = Pace(CATALOGUE, 10, FLOOR_S)
    run_steps(pace.watch(plan), clock, 50.0)

    other = pace.watch(plan.model_copy(update={"steps": 50}))
    other.note(told(Stage.DENOISE, 0, 10))
    same = pace.watch(plan)
    same.note(told(Stage.DECODE, 0, 10))

    assert other.step_s() < 50
    assert same.step_s() < 50


def test_progress_is_the_share_of_predicted_seconds_behind(plan: RenderPlan) -> None:
    watch = Pace(CATALOGUE, 10, FLOOR_S).watch(plan)

    shares = [watch.note(told(stage, done, 2)) for stage in Stage for done in (0, 1, 2)]

    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, pytest.approx(1))
    assert watch.where() == "upload 2 of 2"
