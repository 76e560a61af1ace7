"""What the gateway tells the audit about a request, from what is known of it once it is answered."""

import logging
from typing import Any

from fastapi import Request, Response
from redis.exceptions import RedisError

from server.tokens import Caller
from video_jobs.audit.log import AuditLog, Origin, Who
from video_jobs.job import JobRecord, JobState
from video_jobs.logs import redact

MAX_AGENT_CHARACTERS, MAX_ID_CHARACTERS = 256, 512
POLLS = {"read_result", "list_videos", "list_models"}

logger = logging.getLogger(__name__)


def agent_of(request: Request) -> str:
    """Shortened, and without secrets that somebody put there."""
    return redact(request.headers.get("user-agent", ""))[:MAX_AGENT_CHARACTERS]


def origin_of(caller: Caller) -> Origin:
    return Origin(client=caller.address, user_agent=caller.user_agent)


def who_of(caller: Caller, said: dict[str, Any]) -> Who:
    ids = {name: said[name] for name in ("user_id", "request_id") if isinstance(said.get(name), str)}
    return Who(
        tenant=caller.tenant, key_id=caller.key_id, **{name: text[:MAX_ID_CHARACTERS] for name, text in ids.items()}
    )


async def note_answer(log: AuditLog, request: Request, reply: Response, route: str) -> None:
    """Refusals and polls. A stranger's are only counted, so that no flood of them can stop the service."""
    caller: Caller | None = getattr(request.state, "caller", None)
    if reply.status_code < 400:
        if caller is not None and route in POLLS:
            log.polled(caller.tenant)
        return
    code = getattr(request.state, "refused", f"http-{reply.status_code}")
    if caller is None:
        log.refused_anonymous(code)
        return
    said, told = getattr(request.state, "said", {}), getattr(request.state, "told", {})
    try:
        await log.refused(who_of(caller, said), origin_of(caller), code, route, **told)
    except (RedisError, OSError) as exc:
        logger.warning("a refusal is not on record", extra={"code": code, "error": type(exc).__name__})


async def note_links(log: AuditLog, record: JobRecord, caller: Caller) -> None:
    """Before a caller gets the links of a result for the first time."""
    if record.state is not JobState.SUCCEEDED or record.video is None or caller.key_id in record.issued_to:
        return
    job = record.job
    who = Who(tenant=caller.tenant, key_id=caller.key_id, user_id=job.user_id, request_id=job.request_id)
    await log.issued(job.id, who, origin_of(caller))
