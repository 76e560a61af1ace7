"""Additions to Zhipu's contract: own tasks listed, cancelled and deleted, and the models on offer."""

import asyncio
import logging
from typing import Any

from fastapi import APIRouter, Request

from server.auditor import note_links
from server.deps import House, TheCaller, TheHouse
from server.refusal import Refusal
from server.zhipu.answers import additions, result_body
from server.zhipu.errors import Utf8Json, prefers_english
from server.zhipu.routes import own_record
from video_jobs.job import JobRecord
from video_jobs.logs import also_about
from video_jobs.verdicts import CancelVerdict

router = APIRouter()
logger = logging.getLogger(__name__)
MAX_LISTED, LISTED = 100, 20
SHOWN_OF_MODEL = {"sizes", "default_size", "durations", "fps", "ignores", "audio", "images"}


@router.get("/videos/generations")
async def list_videos(
    request: Request, caller: TheCaller, house: TheHouse, limit: str = "", after: str = ""
) -> Utf8Json:
    """The caller's tasks, newest first; `after` is the `last_id` of the page before."""
    count = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 5 else LISTED if not limit else 0
    if not 1 <= count <= MAX_LISTED:
        raise Refusal("1214", "limit", f"1-{MAX_LISTED}")
    page = await house.store.newest(caller.tenant, count + 1, after)
    if page is None:
        raise Refusal("1214", "after")
    english = prefers_english(request)
    for record in page[:count]:
        await note_links(house.audit.log, record, caller)
    shown = [await _shown(record, house, english) for record in page[:count]]
    ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {}
    return Utf8Json({"object": "list", "data": shown, "has_more": len(page) > count} | ends)


@router.delete("/async-result/{task_id}")
async def cancel_video(task_id: str, request: Request, caller: TheCaller, house: TheHouse) -> Utf8Json:
    """Cancel the task; once it has ended, delete its video and cover."""
    record = await own_record(task_id, caller, house)
    also_about(job_id=task_id, request_id=record.job.request_id)
    if (verdict := await house.store.cancel(caller.tenant, task_id)) is CancelVerdict.FINAL:
        await _delete(record, house)
        logger.info("video deleted", extra={"tenant": caller.tenant})
        return Utf8Json({"id": task_id, "deleted": True})
    logger.info("cancel wanted", extra={"tenant": caller.tenant, "verdict": verdict.value})
    record = await own_record(task_id, caller, house)
    await note_links(house.audit.log, record, caller)
    return Utf8Json(await _shown(record, house, prefers_english(request)))


@router.get("/models")
async def list_models(_caller: TheCaller, house: TheHouse) -> Utf8Json:
    """The model codes of the catalogue, with what each takes."""
    shown = [
        {"id": name, "object": "model", "owned_by": "cogvideox-server", **offer.model_dump(include=SHOWN_OF_MODEL)}
        for name, offer in house.intake.offers.items()
    ]
    return Utf8Json({"object": "list", "data": shown})


async def _shown(record: JobRecord, house: House, english: bool) -> dict[str, Any]:
    created = {"created_at": record.accepted_ms // 1000}
    return result_body(record, house, english) | created | await additions(record, house)


async def _delete(record: JobRecord, house: House) -> None:
    """First the record, which is the truth; what the store still holds after that, the sweep finds."""
    # The job may have ended since the record was read.
    ended = await house.store.get(record.job.id)
    await house.store.forget(record.job.tenant, record.job.id)
    for key in (ended.video.key, ended.video.cover_key) if ended and ended.video else ():
        try:
            await asyncio.to_thread(house.results.delete, key)
        except OSError as exc:
            logger.warning("object not deleted", extra={"dependency": "store", "error": repr(exc)})
