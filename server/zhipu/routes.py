"""Zhipu's two endpoints: parse, ask, answer."""

import logging

from fastapi import APIRouter, Request

from server.auditor import note_links
from server.deps import House, TheCaller, TheHouse
from server.limits import rate_headers
from server.refusal import Refusal
from server.tokens import Caller
from server.zhipu.answers import additions, result_body
from server.zhipu.errors import Utf8Json, prefers_english
from video_jobs.job import Job, JobRecord
from video_jobs.limits import ServiceClass

router = APIRouter()
logger = logging.getLogger(__name__)


@router.post("/videos/generations")
async def create_video(request: Request, caller: TheCaller, house: TheHouse) -> Utf8Json:
    """Queue a video; poll `/async-result/{id}` until its status is final."""
    with house.traces.request("create_video", request.headers):
        async with house.bodies.read_json(request, caller.tenant) as values:
            request.state.said = values
            submission = await house.intake.submit(values, caller, house.traces.parent())
    if submission.job is not None:
        _tell_accepted(submission.job, submission.plan, house)
    body = submission.task._asdict() | {"task_status": "PROCESSING"}
    if submission.warning and not house.settings.strict:
        body["warning"] = submission.warning
    return Utf8Json(body, headers=rate_headers(submission.rate))


def _tell_accepted(job: Job, plan: str, house: House) -> None:
    """Once for each job: a replay was told when it was new."""
    house.metrics.accepted(job.priority, plan)
    told = {"job_id": job.id, "request_id": job.request_id, "tenant": job.tenant, "route": job.route}
    logger.info("job accepted", extra=told | {"class": ServiceClass(job.priority).name.lower()})


@router.get("/async-result/{task_id}")
async def read_result(task_id: str, request: Request, caller: TheCaller, house: TheHouse) -> Utf8Json:
    """Where the task stands."""
    record = await own_record(task_id, caller, house)
    await note_links(house.audit.log, record, caller)
    return Utf8Json(result_body(record, house, prefers_english(request)) | await additions(record, house))


async def own_record(task_id: str, caller: Caller, house: House) -> JobRecord:
    """Another tenant's task, a deleted one and one that never was answer alike."""
    record = await house.store.get(task_id) if task_id.isascii() and task_id.isdigit() and len(task_id) <= 32 else None
    if record is None or record.job.tenant != caller.tenant or record.is_deleted:
        raise Refusal("1214", "id")
    return record
