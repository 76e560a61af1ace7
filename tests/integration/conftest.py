from collections.abc import Callable

import pytest
from arq.connections import ArqRedis

from video_jobs.catalogue import load_catalogue
from video_jobs.job import Job, VideoSpec
from video_jobs.store import JobStore


@pytest.fixture
def store(redis_client: ArqRedis) -> JobStore:
    return JobStore(redis_client, retry_s=0)


@pytest.fixture
def new_job() -> Callable[..., Job]:
    """Makes jobs that differ in their id, and in whatever a test names."""
    catalogue, made = load_catalogue(), iter(range(10**24, 10**25))

    def make(**changes: object) -> Job:
        spec = VideoSpec(model="cogvideox-2", prompt="a cat", width=720, height=480, fps=30, duration_s=5, seed=1)
        job_id = str(next(made))
        values: dict[str, object] = {
            "id": job_id,
            "request_id": f"request-{job_id}",
            "body_hash": "same",
            "tenant": "acme",
            "key_id": "key",
            "spec": spec,
            "plan": catalogue.plan(spec, "tiny"),
            "route": "tiny",
            "cost_s": 1.0,
        }
        return Job.model_validate(values | changes)

    return make
