"""A worker's inside without its process: attempts at jobs in this process, with stand-in children."""

import asyncio
import sys
from pathlib import Path

from gpu_worker.engine.process import Child
from gpu_worker.pace import Pace
from gpu_worker.scratch import Scratch
from gpu_worker.task import JobRun
from gpu_worker.workshop import Workshop
from video_jobs.catalogue import load_catalogue
from video_jobs.results import FolderStore
from video_jobs.store import JobStore

STANDIN = Path(__file__).parents[2] / "standins" / "child.py"


def open_shop(store: JobStore, folder: Path, step_s: float = 0.01) -> Workshop:
    """The store's folder is shared by all shops of a test; the scratch disk is not."""
    argv = [sys.executable, str(STANDIN)]
    return Workshop(
        store=store,
        results=FolderStore(folder / "results"),
        engine=Child("engine", [*argv, "engine", "--step-s", str(step_s)]),
        finisher=Child("finisher", [*argv, "finisher", "--step-s", str(step_s)]),
        rewriter=None,
        scratch=Scratch(folder / "scratch", 0),
        pace=Pace(load_catalogue(), hang_factor=10, hang_floor_s=20),
        checkpoint_every_s=3600,
    )


async def close_shop(shop: Workshop) -> None:
    await asyncio.gather(shop.engine.kill(), shop.finisher.kill())
    shop.scratch.close()


async def claimed_run(shop: Workshop, worker: str = "w1") -> JobRun:
    claim = await shop.store.claim(worker, ["tiny"])
    assert claim is not None
    return JobRun(shop, claim, lambda: None)


async def attempt(shop: Workshop) -> None:
    await (await claimed_run(shop)).run()
