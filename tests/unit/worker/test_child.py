"""A child of the worker, watched."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpu_worker.engine.process import Child
from gpu_worker.engine.protocol import Message, Progress, Ready, Render, decode, length_of
from video_jobs.catalogue import load_catalogue
from video_jobs.errors import ChildNotStarted, DeviceFault, EngineDied, EngineHung, JobCancelled, OutOfGpuMemory
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

    done = await engine.run(render("a cat", tmp_path), lambda: 5, heard.append)

    assert done.stages == {"denoise": "stand-in"}
    assert [message.done for message in heard if isinstance(message, Progress)] == list(range(1, 11))


async def test_dead_child_is_an_error_and_is_started_again(engine: Child, tmp_path: Path) -> None:
    with pytest.raises(EngineDied):
        await engine.run(render("die", tmp_path), lambda: 5, print)

    await engine.run(render("a cat", tmp_path), lambda: 5, print)


async def test_child_that_ran_out_of_memory_is_started_again_with_less(engine: Child, tmp_path: Path) -> None:
    with pytest.raises(OutOfGpuMemory):
        await engine.run(render("oom", tmp_path), lambda: 5, print)

    done = await engine.run(render("oom", tmp_path), lambda: 5, print)

    assert done.stages == {"denoise": "stand-in"}
    assert (engine._begun_with, engine._steps_down) == (1, 1)


async def test_child_tells_how_it_died(engine: Child, tmp_path: Path) -> None:
    with pytest.raises(EngineDied, match="ended with status 3"):
        await engine.run(render("die", tmp_path), lambda: 5, print)

    run = asyncio.create_task(engine.run(render("hang", tmp_path), lambda: 5, print))
    await until_ready(engine)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineDied, match="ended by signal 9"):
        await run


async def until_ready(child: Child) -> None:
    async with asyncio.timeout(5):
        while not child.is_ready:
            await asyncio.sleep(0.01)


async def test_child_that_tells_the_same_again_and_again_is_ended(engine: Child, tmp_path: Path) -> None:
    with pytest.raises(EngineHung):
        await engine.run(render("mumble", tmp_path), lambda: 1.0, lambda _: None)

    assert not engine.is_ready


async def test_child_whose_device_failed_is_replaced(engine: Child, tmp_path: Path) -> None:
    await engine.start()
    first = engine.pid

    with pytest.raises(DeviceFault):
        await engine.run(render("fail:device_fault", tmp_path), lambda: 5, print)

    await engine.start()
    assert engine.pid != first


async def test_child_that_does_not_start_is_no_fault_of_the_job(tmp_path: Path) -> None:
    child = Child("engine", [sys.executable, "-c", "raise SystemExit(7)"])

    with pytest.raises(ChildNotStarted, match="status 7"):
        await child.run(render("a cat", tmp_path), lambda: 5, print)


async def test_child_that_ignores_a_cancel_is_killed_when_the_grace_is_over(engine: Child, tmp_path: Path) -> None:
    run = asyncio.create_task(engine.run(render("hang", tmp_path), lambda: 60, print))
    await until_ready(engine)
    await asyncio.sleep(0.05)

    await engine.cancel("1", "1:a", 0.2)

    with pytest.raises(JobCancelled):
        await run
    assert not engine.is_ready


async def test_silent_child_is_ended(engine: Child, tmp_path: Path) -> None:
    await engine.start()
    first = engine.pid

    with pytest.raises(EngineHung):
        await engine.run(render("hang", tmp_path), lambda: 0.2, print)

    await engine.start()
    assert engine.pid != first


async def test_child_that_obeyed_a_cancel_lives_on(engine: Child, tmp_path: Path) -> None:
    await engine.start()
    first = engine.pid
    run = asyncio.create_task(engine.run(render("a cat", tmp_path), lambda: 5, print))
    await asyncio.sleep(0.03)

    cancel = asyncio.create_task(engine.cancel("1", "1:a", 0.3))
    with pytest.raises(JobCancelled):
        await run
    await cancel

    assert (engine.is_ready, engine.pid) == (True, first)


async def test_job_that_is_cancelled_while_its_child_starts_is_not_begun(engine: Child, tmp_path: Path) -> None:
    heard: list[Message] = []
    engine._failures = 1
    run = asyncio.create_task(engine.run(render("a cat", tmp_path), lambda: 5, heard.append))
    await asyncio.sleep(0.1)

    cancel = asyncio.create_task(engine.cancel("1", "1:a", 0.3))
    with pytest.raises(JobCancelled):
        await run
    cancel.cancel()

    assert heard == []


@pytest.mark.parametrize("parent_lives", [True, False])
async def test_only_the_pipe_tells_a_child_that_its_parent_is_gone(parent_lives: bool) -> None:
    """Its parent's pid is 1 in a container that runs nothing but the worker."""
    child_reads, write_fd = os.pipe()
    read_fd, child_writes = os.pipe()
    if not parent_lives:
        os.close(write_fd)
    command = f'(sleep 0.2; exec "{sys.executable}" "{STANDIN}" finisher --fds {child_reads} {child_writes}) &'
    shell = await asyncio.create_subprocess_exec("sh", "-c", command, pass_fds=(child_reads, child_writes), stderr=-3)
    await shell.wait()
    os.close(child_reads)
    os.close(child_writes)

    with os.fdopen(read_fd, "rb") as pipe:
        header = await asyncio.to_thread(pipe.read, 4)
        said = decode(await asyncio.to_thread(pipe.read, length_of(header))) if header else None
    if parent_lives:
        os.close(write_fd)

    assert isinstance(said, Ready) is parent_lives


async def test_child_started_anew_outlives_the_news_of_its_predecessor_s_end(engine: Child, tmp_path: Path) -> None:
    """Whoever waits for the next job starts it at once; the last job learns of the death a moment later."""
    await engine.start()
    first = engine.pid
    assert first is not None
    run = asyncio.create_task(engine.run(render("hang", tmp_path), lambda: 60, print))
    await asyncio.sleep(0.05)

    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(20):
        while engine.pid == first:
            await engine.start()
            await asyncio.sleep(0)
    second = engine.pid
    with pytest.raises(EngineDied, match="ended by signal 9"):
        await run

    assert (engine.is_ready, engine.pid) == (True, second)
