"""A child of the worker, watched."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpu_worker.engine.process import Child
from gpu_worker.engine.protocol import Message, Progress, Render
from video_jobs.catalogue import load_catalogue
from video_jobs.errors import EngineDied, EngineHung
from video_jobs.job import VideoSpec

STANDIN = Path(__file__).parents[2] / "standins" / "child.py"


@pytest.fixture
async def engine() -> AsyncIterator[Child]:
    child = Child("engine", [sys.executable, str(STANDIN), "engine"])
    yield child
    await child.kill()


def render(prompt: str, folder: Path) -> Render:
    spec = VideoSpec(model="cogvideox-2", prompt=prompt, width=720, height=480, fps=30, duration_s=5, seed=1)
    plan = load_catalogue().plan(spec, "tiny")
    return Render(job_id="1", token="1:a", prompt=prompt, plan=plan, seed=1, frames_path=str(folder / "frames.npy"))


async def test_child_tells_every_step_and_then_that_it_is_done(engine: Child, tmp_path: Path) -> None:
    heard: list[Message] = []

    done = await engine.run(render("a cat", tmp_path), 5, heard.append)

    assert done.stages == {"denoise": "stand-in"}
    assert [message.done for message in heard if isinstance(message, Progress)] == list(range(1, 11))


async def test_dead_child_is_an_error_and_is_started_again(engine: Child, tmp_path: Path) -> None:
    with pytest.raises(EngineDied):
        await engine.run(render("die", tmp_path), 5, print)

    await engine.run(render("a cat", tmp_path), 5, print)


async def test_silent_child_is_ended(engine: Child, tmp_path: Path) -> None:
    await engine.start()
    first = engine.pid

    with pytest.raises(EngineHung):
        await engine.run(render("hang", tmp_path), 0.2, print)

    await engine.start()
    assert engine.pid != first
