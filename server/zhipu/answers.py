"""A job as this dialect shows it."""

import math
import time
from typing import Any

from server.deps import House
from server.zhipu.errors import job_error
from video_jobs.errors import ContentRefused
from video_jobs.job import JobRecord, JobState


def result_body(record: JobRecord, house: House, english: bool) -> dict[str, Any]:
    """Links are signed anew on each read."""
    job = record.job
    body: dict[str, Any] = {"model": job.spec.model, "id": job.id, "request_id": job.request_id}
    if not record.state.is_final:
        return body | {"task_status": "PROCESSING"}
    if record.state is JobState.SUCCEEDED and record.video is not None:
        expires = int(time.time() + house.settings.link_hours * 3600)
        video, cover = (house.links.link(key, expires) for key in (record.video.key, record.video.cover_key))
        return body | {"task_status": "SUCCESS", "video_result": [{"url": video, "cover_image_url": cover}]}
    failed = body | {"task_status": "FAIL", "error": job_error(record.error_code, english)}
    if record.error_code != ContentRefused.code:
        return failed
    level = int(record.rendered.stages.get("moderation_level", "1"))
    return failed | {"contentFilter": [{"level": level, "role": "assistant"}]}


async def additions(record: JobRecord, house: House) -> dict[str, Any]:
    """What Zhipu's clients ignore and people like to see: how far the job is, or its place in line."""
    if house.settings.strict or record.state.is_final:
        return {}
    if record.state is JobState.QUEUED:
        place = await house.store.place(record.job.id, await house.intake.fleet.workers(record.job.route))
        if place:
            return {"queue_position": place.position, "eta_seconds": math.ceil(place.eta_s), "progress": 0}
    return {"progress": int(100 * record.progress), "eta_seconds": math.ceil(house.intake.seconds_left(record))}
