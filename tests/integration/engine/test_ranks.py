"""Several processes render one clip together, over gloo: what one alone renders, with the work really shared."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file

from gpu_worker.engine import crew, follow
from gpu_worker.engine.__main__ import check_ranks
from gpu_worker.engine.process import Child
from gpu_worker.engine.protocol import Message, Progress, Render
from gpu_worker.engine.ranks import Ranks, UnshareableModel, bounds_of, sizes_of
from tests.integration.engine.plans import STEPS, engine_command, small_plan
from video_jobs.errors import EngineFault, JobCancelled
from video_jobs.job import Stage

pytestmark = [pytest.mark.worker, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[3]
BLOCKS, HEADS = 2, 4
CLIPS = ("t2v-0.0", "i2v-0.0", "t2v-1000000000.0")


def rendered(models: Path, folder: Path, world: int, branches: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    folder.mkdir()
    script = ROOT / "tests" / "integration" / "engine" / "ranks_run.py"
    subprocess.run(
        [sys.executable, str(script), str(models), str(folder), str(world), str(branches)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
        cwd=folder,
    )
    return load_file(folder / "frames.safetensors"), json.loads((folder / "told.json").read_text())


@pytest.fixture(scope="module")
def alone(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    return rendered(models, tmp_path_factory.mktemp("alone") / "out", 1, 0)


@pytest.mark.parametrize(("world", "branches"), [(2, 2), (2, 1), (4, 2), (4, 1)])
@pytest.mark.long
def test_ranks_render_what_one_process_renders(
    world: int, branches: int, alone: Any, models: Path, tmp_path: Path
) -> None:
    frames, told = rendered(models, tmp_path / "out", world, branches)

    for clip in CLIPS:
        assert float((frames[clip] - alone[0][clip]).abs().max()) < 1e-4
        sharers, one = world // branches, alone[1][clip]
        batch, heads, tokens, _ = told[clip]["shape"]
        assert (batch, heads) == (2 // branches, HEADS // sharers), "each rank has its branch, and its share of heads"
        assert tokens == one["shape"][2], "for which it attends the whole clip"
        assert told[clip]["attended"] == one["attended"], "all skip the same steps"
        assert told[clip]["tiles"] == -(-one["tiles"] // world), "and decodes its share of the tiles"
    assert told["t2v-0.0"]["attended"] == STEPS * BLOCKS
    assert told["t2v-1000000000.0"]["attended"] < STEPS * BLOCKS
    assert told["t2v-0.0"]["used"]["devices"] == str(world)


def followers_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.long
async def test_a_dead_rank_fails_the_attempt_and_the_next_one_runs(models: Path, tmp_path: Path) -> None:
    engine = Child("engine", engine_command(models, "--ranks", "2"))
    heard: list[int] = []

    def job(token: str) -> Render:
        fields = {"job_id": "7", "token": token, "prompt": "a red ball", "plan": small_plan(), "seed": 3}
        return Render.model_validate(fields | {"frames_path": str(tmp_path / "frames.npy")})

    def kill_at_the_third_step(message: Message) -> None:
        if isinstance(message, Progress) and message.done == 3 and not heard:
            heard.append(message.done)
            assert engine.pid is not None
            (follower,) = followers_of(engine.pid)
            os.kill(follower, signal.SIGKILL)

    try:
        with pytest.raises(EngineFault):
            await engine.run(job("1:a"), lambda: 600.0, kill_at_the_third_step)
        done = await engine.run(job("2:b"), lambda: 600.0, lambda _: None)
        assert engine.pid is not None
        (follower,) = followers_of(engine.pid)
    finally:
        await engine.kill()

    assert done.stages["devices"] == "2"
    for _ in range(200):
        if not Path(f"/proc/{follower}").exists():
            break
        await asyncio.sleep(0.05)
    assert not Path(f"/proc/{follower}").exists(), "followers end with their leader"


def test_shares_cover_everything_once() -> None:
    assert bounds_of(10, 4) == [0, 2, 5, 7, 10]
    assert all(sum(sizes_of(length, count)) == length for length in (1, 7, 44_880) for count in (1, 2, 3, 4, 8))


def test_more_gpus_for_a_job_than_there_are_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)

    check_ranks(2, torch.device("cuda"))
    check_ranks(4, torch.device("cpu"))
    with pytest.raises(SystemExit, match="3 GPUs"):
        check_ranks(3, torch.device("cuda"))


def test_heads_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(UnshareableModel, match="30 heads over 4"):
        Ranks(0, 8, 2, None, None, None).check(30)


@pytest.mark.long
async def test_a_clip_cancelled_while_tiles_are_shared_out_leaves_the_crew_whole(models: Path, tmp_path: Path) -> None:
    engine = Child("engine", engine_command(models, "--ranks", "2", "--memory", "24"))
    asked: list[asyncio.Task[None]] = []

    def job(token: str) -> Render:
        plan = small_plan(width=256, height=160)
        fields = {"job_id": "7", "token": token, "prompt": "a red ball", "plan": plan, "seed": 3}
        return Render.model_validate(fields | {"frames_path": str(tmp_path / "frames.npy")})

    def cancel_in_decode(message: Message) -> None:
        if isinstance(message, Progress) and message.stage is Stage.DECODE and not asked:
            asked.append(asyncio.create_task(engine.cancel("7", "1:a", 300.0)))

    try:
        with pytest.raises(JobCancelled):
            await engine.run(job("1:a"), lambda: 600.0, cancel_in_decode)
        asked[0].cancel()
        first = engine.pid
        done = await engine.run(job("2:b"), lambda: 120.0, lambda _: None)
        assert engine.pid == first
    finally:
        await engine.kill()

    assert done.stages["devices"] == "2"


@pytest.mark.parametrize(("error", "status"), [(torch.OutOfMemoryError("full"), 71), (RuntimeError("broken"), 70)])
def test_a_crew_that_ran_out_of_memory_says_so(error: Exception, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader by its own end, a follower by its status, which the leader's watch passes on."""
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(crew, "LAST_WORDS_SECONDS", 1.0)
    monkeypatch.setattr(threading.Thread, "start", lambda _: None)
    alone = crew.Crew(1, [])
    with pytest.raises(SystemExit) as led, alone.in_step():
        raise error
    # One that only lost its connection to the other is the first to end.
    endings = ("raise SystemExit(1)", f"import time; time.sleep(0.5); raise SystemExit({status})")
    alone._followers = [subprocess.Popen([sys.executable, "-c", ending]) for ending in endings]
    with pytest.raises(SystemExit) as followed:
        alone._watch()

    assert (led.value.code, followed.value.code) == (status, status)


def test_a_follower_that_ran_out_of_memory_ends_with_its_own_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_args: object) -> None:
        raise torch.OutOfMemoryError

    said = "follow --rank 1 --world 2 --branches 0 --meeting m --model tiny --models m --device cpu"
    monkeypatch.setattr(sys, "argv", said.split())
    monkeypatch.setattr(follow, "die_with_parent", lambda _: None)
    monkeypatch.setattr(follow, "_follow", full)

    with pytest.raises(SystemExit, match="71"):
        follow.main()
