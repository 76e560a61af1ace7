"""One attempt after another, in this process, with stand-in children and a rewriter that a test controls."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpu_worker.workshop import Workshop
from tests.integration.worker.shop import attempt
from video_jobs.cost import measured_seconds
from video_jobs.errors import RewriterUnavailable
from video_jobs.job import ImageRef, JobState
from video_jobs.limits import Tenant, Terms
from video_jobs.logs import JsonLines
from video_jobs.tenants import TenantBook


class Rewriter:
    """Answers what it was given, in turn."""

    name = "http:writer"

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def rewrite(self, prompt: str) -> str:
        if not self.answers:
            raise RewriterUnavailable
        return self.answers.pop(0)


async def test_retry_renders_the_recorded_rewrite(shop: Workshop, queue_job) -> None:
    shop.rewriter = Rewriter("die", "never asked for")
    job = await queue_job(prompt="一只猫")
    await attempt(shop)
    record = await shop.store.get(job.id)
    assert record.state is JobState.QUEUED
    assert (record.rendered.prompt, record.rendered.prompt_by) == ("die", "http:writer")

    await attempt(shop)

    assert shop.rewriter.answers == ["never asked for"]


async def test_rewriter_that_is_down_hands_the_job_back_before_rendering(shop: Workshop, queue_job) -> None:
    shop.rewriter = Rewriter()
    job = await queue_job()

    await attempt(shop)

    record = await shop.store.get(job.id)
    assert record.state is JobState.QUEUED
    assert record.attempts[0].ended_by == RewriterUnavailable.code
    assert record.stage is None or record.stage.value == "prepare"


async def test_every_attempt_is_counted_with_the_seconds_of_its_stages(shop: Workshop, queue_job) -> None:
    await queue_job()

    await attempt(shop)

    value = shop.metrics.registry.get_sample_value
    assert value("cogvideox_worker_attempts_total", {"how": "succeeded"}) == 1
    for stage in ("denoise", "finish", "upload"):
        assert value("cogvideox_worker_stage_seconds_count", {"stage": stage}) == 1
    for name in ("queue_wait", "job"):
        assert value(f"cogvideox_worker_{name}_seconds_count", {"class": "standard"}) == 1


async def test_what_a_plan_used_is_counted(shop: Workshop, queue_job) -> None:
    book = TenantBook(shop.store)
    await book.put_plan("studio", Terms())
    job = await queue_job()
    await book.put_tenant(job.tenant, Tenant(plan="studio"))

    await attempt(shop)

    value, record = shop.metrics.registry.get_sample_value, await shop.store.get(job.id)
    assert value("cogvideox_plan_videos_total", {"plan": "studio"}) == 1
    used = value("cogvideox_plan_device_seconds_total", {"plan": "studio"})
    assert used == pytest.approx(measured_seconds(record.rendered.stage_seconds))


async def test_every_line_of_an_attempt_says_which_job_and_request(shop: Workshop, queue_job) -> None:
    job, said = await queue_job(), []
    handler = logging.StreamHandler(SimpleNamespace(write=said.append, flush=lambda: None))
    handler.setFormatter(JsonLines())
    ours = logging.getLogger("gpu_worker")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        await attempt(shop)
    finally:
        ours.removeHandler(handler)
        ours.setLevel(logging.NOTSET)

    lines = {line["event"]: line for line in map(json.loads, said)}
    for event in ("job claimed", "job ended"):
        assert (lines[event]["job_id"], lines[event]["request_id"]) == (job.id, job.request_id)


async def test_record_keeps_the_rewrite_and_its_seconds(shop: Workshop, queue_job) -> None:
    shop.rewriter = Rewriter("A cat sits on green grass.")
    job = await queue_job(prompt="一只猫")

    await attempt(shop)

    record = await shop.store.get(job.id)
    assert record is not None
    assert (record.job.spec.prompt, record.rendered.prompt) == ("一只猫", "A cat sits on green grass.")
    assert record.rendered.stage_seconds["prepare"] >= 0


async def test_rewrite_stays_in_the_record_of_a_job_that_fails_later(shop: Workshop, queue_job, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"picture")
    shop.results.put("images/1.png", tmp_path / "image", "image/png")
    shop.rewriter = Rewriter("die")
    job = await queue_job(prompt="一只猫", image=ImageRef(key="images/1.png", sha256="", width=16, height=16))

    await attempt(shop)
    shop.results.delete("images/1.png")
    await attempt(shop)

    record = await shop.store.get(job.id)
    assert record is not None
    assert (record.state, record.error_code) == (JobState.FAILED, "image_unreadable")
    assert (record.rendered.prompt, record.rendered.prompt_by) == ("die", "http:writer")
