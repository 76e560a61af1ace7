"""A clip that goes on from a checkpoint, in another process, is the clip that was never interrupted, bit for bit."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

pytest.importorskip("torch")

from PIL import Image
from safetensors.torch import load_file, save_file

from gpu_worker.engine.model import Model
from gpu_worker.engine.process import Child
from gpu_worker.engine.protocol import Checkpointed, Done, Message, Progress, Render
from gpu_worker.engine.render import Clip, Renderer
from gpu_worker.engine.resume import Checkpoints, made_for
from tests.integration.engine.test_equality import HEIGHT, STEPS, WIDTH, plan
from video_jobs.errors import JobCancelled
from video_jobs.job import Stage

pytestmark = [pytest.mark.worker, pytest.mark.asyncio(loop_scope="module")]

LIMIT_S = 120.0
# Large enough that a step lasts longer than a message needs.
SLOW = plan("dpm", width=384, height=256)


def engine_child(models: Path, *options: str) -> Child:
    argv = [sys.executable, "-P", "-m", "gpu_worker.engine", "--model", "tiny-random", "--checkpoint", "tiny-random"]
    return Child("engine", [*argv, "--models", str(models), "--device", "cpu", *options])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine(models: Path) -> AsyncIterator[Child]:
    child = engine_child(models)
    yield child
    await child.kill()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def other_engine(models: Path) -> AsyncIterator[Child]:
    child = engine_child(models)
    yield child
    await child.kill()


@pytest.fixture
def new_render(tmp_path: Path) -> Callable[..., Render]:
    """Makes attempts at one job, each with a folder of its own."""
    image = tmp_path / "first.png"
    Image.linear_gradient("L").resize((WIDTH, HEIGHT)).convert("RGB").save(image)
    made = iter(range(1, 1000))

    def make(scheduler: str = "dpm", mode: str = "t2v", **changes: object) -> Render:
        attempt = next(made)
        folder = tmp_path / str(attempt)
        folder.mkdir()
        fields = {
            **{"job_id": "7", "token": f"{attempt}:a", "prompt": "a red ball", "plan": plan(scheduler), "seed": 3},
            **{"image_path": str(image) if mode == "i2v" else None, "frames_path": str(folder / "frames.npy")},
            **{"checkpoint_folder": str(folder), "checkpoint_every_s": 0.0},
        }
        return Render.model_validate(fields | changes)

    return make


async def run(engine: Child, job: Render) -> tuple[Done, list[Message]]:
    heard: list[Message] = []
    return await engine.run(job, lambda: LIMIT_S, heard.append), heard


def steps_told(heard: list[Message]) -> list[int]:
    return [message.done for message in heard if isinstance(message, Progress) and message.stage is Stage.DENOISE]


@pytest.mark.parametrize("mode", ["t2v", "i2v"])
@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
async def test_every_step_is_one_to_go_on_from_bit_for_bit(
    scheduler: str, mode: str, engine: Child, other_engine: Child, new_render: Callable[..., Render]
) -> None:
    whole = new_render(scheduler, mode)
    _, heard = await run(engine, whole)
    checkpoints = {message.step: message.path for message in heard if isinstance(message, Checkpointed)}
    clip = np.load(whole.frames_path)

    assert list(checkpoints) == list(range(1, STEPS + 1))
    for step, path in checkpoints.items():
        rest = new_render(scheduler, mode, checkpoint_path=path)
        done, told = await run(other_engine, rest)
        assert done.stages["resumed"] == f"step {step}"
        assert done.stage_seconds["denoise"] >= int(words_of(Path(path))["spent_ms"]) / 1000
        assert steps_told(told) == list(range(step, STEPS + 1))
        assert np.array_equal(np.load(rest.frames_path), clip)


async def test_chain_of_interrupted_attempts_makes_the_same_clip(
    engine: Child, other_engine: Child, new_render: Callable[..., Render]
) -> None:
    whole = new_render(plan=SLOW)
    await run(engine, whole)

    newest: str | None = None
    for child in (engine, other_engine):
        job = new_render(plan=SLOW, checkpoint_path=newest, checkpoint_every_s=3600.0)
        heard, _ = await stopped_after(child, job, steps=2, keep_checkpoint=True)
        newest = next(message.path for message in heard if isinstance(message, Checkpointed))
    last = new_render(plan=SLOW, checkpoint_path=newest)
    done, _ = await run(engine, last)

    assert done.stages["resumed"] in ("step 4", "step 5", "step 6", "step 7", "step 8")
    assert np.array_equal(np.load(last.frames_path), np.load(whole.frames_path))


async def test_clip_ends_on_the_kernel_it_was_begun_with(
    models: Path, engine: Child, new_render: Callable[..., Render]
) -> None:
    elsewhere = engine_child(models, "--attention", "math")
    whole = new_render()
    told, heard = await run(elsewhere, whole)
    await elsewhere.kill()
    checkpoints = [message.path for message in heard if isinstance(message, Checkpointed)]
    clips = {}
    for path in (checkpoints[2], None):
        job = new_render(checkpoint_path=path)
        done, _ = await run(engine, job)
        clips[done.stages["attention"]] = np.load(job.frames_path)

    assert told.stages["attention"] == "math"
    assert list(clips) == ["math", "sdpa"]
    assert np.array_equal(clips["math"], np.load(whole.frames_path))


async def stopped_after(
    child: Child, job: Render, steps: int, keep_checkpoint: bool
) -> tuple[list[Message], list[Message]]:
    """What the engine told before and after it was asked to stop."""
    before: list[Message] = []
    after: list[Message] = []
    stopping: list[asyncio.Task[None]] = []

    def hear(message: Message) -> None:
        (after if stopping else before).append(message)
        at = steps_told(before)
        if not stopping and at and at[-1] - at[0] >= steps:
            stopping.append(asyncio.create_task(child.cancel(job.job_id, job.token, 10.0, keep_checkpoint)))

    with pytest.raises(JobCancelled):
        await child.run(job, lambda: LIMIT_S, hear)
    for task in stopping:
        task.cancel()
    return before + after, after


async def test_cancel_stops_within_one_step_and_leaves_no_checkpoint(
    engine: Child, new_render: Callable[..., Render]
) -> None:
    job = new_render(checkpoint_every_s=3600.0, plan=SLOW)

    heard, after = await stopped_after(engine, job, steps=3, keep_checkpoint=False)

    assert len(steps_told(after)) <= 1
    assert not any(isinstance(message, Checkpointed) for message in heard)


CHANGES: dict[str, dict[str, object]] = {
    "job": {"job_id": "8"},
    "plan": {"plan": plan("dpm", guidance=5.0)},
    "scheduler": {"plan": plan("ddim")},
    "prompt": {"prompt": "a blue ball"},
    "seed": {"seed": 4},
}


@pytest.mark.parametrize("other", CHANGES)
async def test_checkpoint_of_another_render_is_ignored(
    other: str, engine: Child, new_render: Callable[..., Render]
) -> None:
    checkpoint = await one_checkpoint(engine, new_render)

    job = new_render(checkpoint_path=str(checkpoint), **CHANGES[other])
    done, told = await run(engine, job)

    assert "resumed" not in done.stages
    assert steps_told(told) == list(range(STEPS + 1))


async def one_checkpoint(engine: Child, new_render: Callable[..., Render]) -> Path:
    _, heard = await run(engine, new_render())
    return next(Path(message.path) for message in heard if isinstance(message, Checkpointed) and message.step == 4)


def words_of(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as held:
        return dict(held.metadata())


def rewrite(path: Path, words: dict[str, str] | None = None, **changes: object) -> None:
    parts = {name: part for name, part in (load_file(path) | changes).items() if part is not None}
    save_file(parts, path, metadata=words_of(path) | (words or {}))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "a flipped bit": lambda path: path.write_bytes(path.read_bytes()[:-9] + b"\x7f" + path.read_bytes()[-8:]),
    "not safetensors": lambda path: path.write_bytes(b"\x80\x04" + bytes(path.stat().st_size - 2)),
    "empty": lambda path: path.write_bytes(b""),
    "absent": lambda path: path.unlink(),
    "other version": lambda path: rewrite(path, {"checkpoint": "0"}),
    "other weights": lambda path: rewrite(path, {"weights_checksum": "0"}),
    "other engine": lambda path: rewrite(path, {"engine_version": "torch 0"}),
    "other device": lambda path: rewrite(path, {"device": "cuda"}),
    "a word more": lambda path: rewrite(path, {"attention": "another"}),
    "no time": lambda path: rewrite(path, {"spent_ms": "nan"}),
    "no step": lambda path: rewrite(path, {"step": "-1"}),
    "a step too far": lambda path: rewrite(path, {"step": "11"}),
    "other type": lambda path: rewrite(path, sample=load_file(path)["sample"].half()),
    "other size": lambda path: rewrite(path, sample=load_file(path)["sample"][:, :1]),
    "a part less": lambda path: rewrite(path, previous_prediction=None),
    "a part more": lambda path: rewrite(path, more=load_file(path)["sample"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_checkpoint_is_ignored_and_the_clip_is_whole(
    damage: str, engine: Child, new_render: Callable[..., Render]
) -> None:
    checkpoint = await one_checkpoint(engine, new_render)
    DAMAGES[damage](checkpoint)

    job = new_render(checkpoint_path=str(checkpoint))
    done, told = await run(engine, job)

    assert "resumed" not in done.stages
    assert steps_told(told) == list(range(STEPS + 1))


async def test_no_checkpoint_before_its_time(engine: Child, new_render: Callable[..., Render]) -> None:
    _, heard = await run(engine, new_render(checkpoint_every_s=3600.0))

    assert not any(isinstance(message, Checkpointed) for message in heard)


async def test_disk_that_takes_no_checkpoint_does_not_end_the_job(
    engine: Child, new_render: Callable[..., Render], tmp_path: Path
) -> None:
    job = new_render(checkpoint_folder=str(tmp_path / "nowhere"))

    done, heard = await run(engine, job)

    assert isinstance(done, Done)
    assert not any(isinstance(message, Checkpointed) for message in heard)


async def test_clip_that_is_begun_again_in_the_same_process_goes_on_from_its_own_checkpoint(
    model: Model, new_render: Callable[..., Render]
) -> None:
    job, told = new_render(), []
    checkpoints = Checkpoints(job, made_for(job, job.prompt, {}), lambda: False, lambda path, step: None)

    def render(frames: str) -> None:
        def note(stage: Stage, done: int, _total: int) -> None:
            told.append(done if stage is Stage.DENOISE else stage)

        Renderer(model).render(Clip(job.plan, job.prompt, None, job.seed), Path(frames), note, checkpoints)

    render(job.frames_path)
    told.clear()
    render(job.frames_path + "2.npy")

    assert [step for step in told if isinstance(step, int)] == [STEPS]
    assert np.array_equal(np.load(job.frames_path), np.load(job.frames_path + "2.npy"))
