"""Zhipu's two endpoints: parse, ask, answer."""

import time
from typing import Any

from fastapi import APIRouter, Request

from server.body import read_json
from server.deps import House, TheCaller, TheHouse
from server.refusal import Refusal
from server.zhipu.errors import Utf8Json, job_error, prefers_english
from video_jobs.job import Job, JobRecord, JobState

router = APIRouter()


@router.post("/videos/generations")
async def create_video(request: Request, caller: TheCaller, house: TheHouse) -> Utf8Json:
    """Queue a video; poll `/async-result/{id}` until its status is final."""
    settings = house.settings
    values = await read_json(request, settings.max_body_bytes, settings.body_seconds)
    job = await house.intake.submit(values, caller)
    return Utf8Json(task_body(job) | {"task_status": "PROCESSING"})


@router.get("/async-result/{task_id}")
async def read_result(task_id: str, request: Request, caller: TheCaller, house: TheHouse) -> Utf8Json:
    """Where the task stands; links are signed anew on each read."""
    record = await house.store.get(task_id) if task_id.isdigit() and len(task_id) <= 32 else None
    # Another tenant's task and one that never was answer alike.
    if record is None or record.job.tenant != caller.tenant:
        raise Refusal("1214", "id")
    return Utf8Json(result_body(record, house, prefers_english(request)))


def task_body(job: Job) -> dict[str, Any]:
    return {"model": job.spec.model, "id": job.id, "request_id": job.request_id}


def result_body(record: JobRecord, house: House, english: bool) -> dict[str, Any]:
    body = task_body(record.job)
    if not record.state.is_final:
        return body | {"task_status": "PROCESSING"}
    if record.state is JobState.SUCCEEDED and record.video is not None:
        expires = int(time.time() + house.settings.link_hours * 3600)
        video, cover = (house.links.link(key, expires) for key in (record.video.key, record.video.cover_key))
        return body | {"task_status": "SUCCESS", "video_result": [{"url": video, "cover_image_url": cover}]}
    return body | {"task_status": "FAIL", "error": job_error(record.error_code, english)}
