"""What a worker alone sees is checked before anything is published."""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gpu_worker import content
from gpu_worker.content import ContentCheck
from gpu_worker.settings import WorkerSettings
from gpu_worker.task import Workshop
from tests.integration.worker.shop import attempt
from tests.moderation import Service, serving
from video_jobs.errors import ContentRefused
from video_jobs.job import Job, JobState
from video_jobs.policy.moderation import open_moderator
from video_jobs.policy.terms import JobPolicy
from video_jobs.policy.words import WordLists

Queue = Callable[..., Awaitable[Job]]
CHECKED = JobPolicy(words=True, moderation=True, fails="closed")


class Rewriter:
    name = "http:writer"

    def __init__(self, answer: str) -> None:
        self.answer = answer

    async def rewrite(self, prompt: str) -> str:
        return self.answer


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as service:
        yield service


@pytest.fixture
async def checking(shop: Workshop, service: Service, tmp_path: Path) -> AsyncIterator[Workshop]:
    """A shop whose jobs are checked by word list and by service."""
    words = tmp_path / "words.txt"
    words.write_text("badword\n")
    settings = WorkerSettings(
        policy_words=(words,), moderation_url=service.url, moderation_timeout_s=0.5, moderation_frames=3
    )
    shop.content = ContentCheck(WordLists(settings.policy_words), open_moderator(settings))
    yield shop
    await shop.content.close()


async def test_a_refused_video_fails_and_nothing_of_it_is_kept(
    checking: Workshop, service: Service, queue_job: Queue
) -> None:
    service.refuses = "video"
    job = await queue_job(policy=CHECKED)
    await attempt(checking)

    record = await checking.store.get(job.id)
    assert record is not None
    assert (record.state, record.error_code, record.video) == (JobState.FAILED, ContentRefused.code, None)
    assert record.rendered.stages["moderation"] == "video refused"
    assert (record.rendered.stages["moderation_level"], record.rendered.stages["moderation_reason"]) == ("2", "told so")
    assert list(checking.results.keys("videos/")) == []
    (asked,) = service.asked
    assert [base64.b64decode(image["data"]) for image in asked["images"]] == [b"frame 0", b"frame 1", b"frame 2"]
    assert (asked["tenant"], asked["task_id"]) == ("acme", job.id)


async def test_a_passed_video_says_so_in_its_record(checking: Workshop, queue_job: Queue) -> None:
    job = await queue_job(policy=CHECKED)
    await attempt(checking)

    record = await checking.store.get(job.id)
    assert record is not None
    assert record.state is JobState.SUCCEEDED
    assert record.rendered.stages["moderation"] == "passed"


@pytest.mark.parametrize("how", ["words", "service"])
async def test_a_rewrite_is_checked_before_it_is_rendered(
    how: str, checking: Workshop, service: Service, queue_job: Queue
) -> None:
    checking.rewriter = Rewriter("a b-a-d-w-o-r-d in the sun" if how == "words" else "a cat in the sun")
    service.refuses = "rewritten_prompt" if how == "service" else ""
    job = await queue_job(policy=CHECKED)
    await attempt(checking)

    record = await checking.store.get(job.id)
    assert record is not None
    assert (record.state, record.error_code) == (JobState.FAILED, ContentRefused.code)
    assert record.rendered.stages["moderation"] == "rewritten_prompt refused"
    assert "denoise" not in record.rendered.stage_seconds


async def test_a_job_that_is_not_to_be_checked_is_not(checking: Workshop, service: Service, queue_job: Queue) -> None:
    service.refuses = "video"
    job = await queue_job()
    await attempt(checking)

    record = await checking.store.get(job.id)
    assert record is not None
    assert record.state is JobState.SUCCEEDED
    assert service.asked == []


@pytest.mark.parametrize(("fails", "state"), [("open", JobState.SUCCEEDED), ("closed", JobState.QUEUED)])
async def test_without_a_verdict_on_the_video_the_jobs_policy_holds(
    fails: str, state: JobState, checking: Workshop, service: Service, queue_job: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "PAUSES_SECONDS", (0.01,))
    service.trouble = "failing"
    job = await queue_job(policy=CHECKED.model_copy(update={"fails": fails}))
    await attempt(checking)

    record = await checking.store.get(job.id)
    assert record is not None
    assert record.state is state
    assert list(checking.results.keys("videos/")) == [] if fails == "closed" else record.video


@pytest.mark.parametrize(("fails", "state"), [("open", JobState.SUCCEEDED), ("closed", JobState.QUEUED)])
async def test_a_worker_that_knows_no_service_passes_nothing_over(
    fails: str, state: JobState, shop: Workshop, queue_job: Queue
) -> None:
    job = await queue_job(policy=JobPolicy(moderation=True, checks=("video",), fails=fails))
    await attempt(shop)

    record = await shop.store.get(job.id)
    assert record is not None
    assert record.state is state
    assert list(shop.results.keys("videos/")) == [] if fails == "closed" else record.video
