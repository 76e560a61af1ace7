"""The real worker parent with stand-in children, for tests alone: `worker.py ENGINE_STEP_S FINISHER_STEP_S`."""

import asyncio
import sys
from pathlib import Path

from gpu_worker.__main__ import work
from gpu_worker.settings import WorkerSettings
from video_jobs.logs import set_up_logs

CHILD = str(Path(__file__).with_name("child.py"))

if __name__ == "__main__":
    set_up_logs("INFO")
    engine, finisher = (
        [sys.executable, CHILD, role, "--step-s", step_s]
        for role, step_s in zip(("engine", "finisher"), sys.argv[1:3], strict=True)
    )
    asyncio.run(work(WorkerSettings(), engine, finisher))
