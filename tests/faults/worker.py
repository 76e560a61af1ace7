"""The real worker parent with stand-in children and failpoints, for tests alone: `worker.py ENGINE_S FINISHER_S`."""

import asyncio
import functools
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from gpu_worker.__main__ import work
from gpu_worker.engine.process import Child
from gpu_worker.engine.protocol import Render
from gpu_worker.settings import WorkerSettings
from tests.faults.failpoints import Failpoints, around
from tests.faults.release import become_next_release
from tests.faults.seeded import plant
from video_jobs.fragment import read_settings
from video_jobs.job import Claim
from video_jobs.logs import set_up_logs
from video_jobs.s3 import S3Store
from video_jobs.store import JobStore

# Around storing what, by folder and kind of file.
PLACES = {
    ("videos", ".mp4"): ("w.before_upload", "w.mid_upload"),
    ("videos", ".jpg"): ("", "w.uploaded"),
    ("checkpoints", ".safetensors"): ("w.before_checkpoint", "w.checkpoint_uploaded"),
}
CHILD = str(Path(__file__).with_name("child.py"))


def claim_of(args: tuple[Any, ...], answer: Any) -> tuple[str, ...]:
    return next((tuple(value) for value in (*args, answer) if isinstance(value, Claim)), ())


def lay(points: Failpoints) -> None:
    around(JobStore, "claim", points, ("", "w.claimed"), claim_of)
    around(JobStore, "beat", points, ("w.beating", ""), claim_of)
    around(JobStore, "requeue", points, ("w.before_requeue", "w.requeued"), claim_of)
    around(JobStore, "finish", points, ("w.before_finish", "w.finished"), claim_of)
    around(JobStore, "checkpointed", points, ("", "w.checkpointed"), claim_of)
    _watch_finish(points)
    _around_child(points)
    _around_put(points)


def _watch_finish(points: Failpoints) -> None:
    """Note what every publication was answered, outside the failpoints: the truth about refused zombies."""
    original = JobStore.finish

    @functools.wraps(original)
    async def finish(self: JobStore, claim: Claim, *rest: Any) -> bool:
        published = await original(self, claim, *rest)
        points.note("finish", job_id=claim.job_id, token=claim.token, published=published)
        return published

    JobStore.finish = finish  # type: ignore[method-assign]


def _around_child(points: Failpoints) -> None:
    original = Child.run

    async def run(self: Child, job: Any, *rest: Any) -> Any:
        before, after = (
            ("w.before_render", "w.rendered") if isinstance(job, Render) else ("w.before_encode", "w.encoded")
        )
        await points.pass_by_async(before, (job.job_id, job.token))
        answer = await original(self, job, *rest)
        await points.pass_by_async(after, (job.job_id, job.token))
        return answer

    Child.run = run  # type: ignore[method-assign]


def _around_put(points: Failpoints) -> None:
    original = S3Store.put

    def put(self: S3Store, key: str, source: Path, content_type: str) -> None:
        before, after = PLACES.get((key.split("/")[0], Path(key).suffix), ("", ""))
        claim = tuple(key.split("/")[1:3])
        if before and points.is_armed(before):
            # An upload that is under way has its file open: the attempt's end does not take it away.
            source = points.hold(source)
            time.sleep(points.pass_by(before, *claim))
        original(self, key, source, content_type)
        time.sleep(points.pass_by(after, *claim) if after else 0)

    S3Store.put = put  # type: ignore[method-assign]


def main() -> None:
    lay(Failpoints.of_this_process("worker"))
    plant()
    become_next_release()
    settings = read_settings(WorkerSettings)
    set_up_logs(settings.log_level)
    engine, finisher = (
        [sys.executable, CHILD, role, "--job-s", job_s]
        for role, job_s in zip(("engine", "finisher"), sys.argv[1:3], strict=True)
    )
    asyncio.run(work(settings, engine, finisher))


if __name__ == "__main__":
    main()
