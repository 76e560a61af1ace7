"""The job store: every transition of a job is one script on Redis, and the record it leaves is the only truth."""

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from video_jobs import keys
from video_jobs.audit.log import Origin
from video_jobs.cost import measured_seconds
from video_jobs.errors import PoisonJob, RanTooLong, StartedTooLate, error_for
from video_jobs.job import JOB_VERSION, KNOWN_VERSIONS, Claim, Job, JobRecord, Outcome, Stage
from video_jobs.limits import Ask, LimitHit, Place, Rate
from video_jobs.record import read_record
from video_jobs.verdicts import Admission, AuditFull, CancelVerdict, Charge, Hold, Requeue, Retry, Verdict

LEASE_SECONDS = 15.0
BEAT_SECONDS = 5.0
RESERVE_SECONDS = 60.0
KEPT_SECONDS = 7 * 24 * 3600.0
REAP_GAP_SECONDS = 5.0
"""A lease that was about to be beaten when Redis went away has less than 10 s left: after so short an outage it must
still have time to be beaten."""

WORKER_SECONDS = 30
MAX_FAILED_ATTEMPTS, MAX_ENGINE_DEATHS, MAX_LOST_LEASES = 5, 3, 5
REAPED_PER_CALL, JOBS_PER_CALL = 100, 1000
RETRY_SECONDS = 2.0

_SCRIPTS = Path(__file__).parent / "scripts"
_KEYS = [
    *(keys.JOB, keys.ATTEMPTS, keys.WAITING, keys.WAKE, keys.CLAIM_NONCE),
    *(keys.LEASES, keys.DEAD, keys.AUDIT, keys.AUDIT_SEQ),
    *(keys.REAPED, keys.WAITING_SEQ, keys.CANCELS, keys.TENANCY, keys.SCHEDULE),
]
# Parts of one text, in this order, put before every script.
_PRELUDE = ("tenants", "order", "usage", "budgets", "counts", "limits", "house")
MAX_TENANTS_LOOKED_AT = 200


_CHARGE_LIMITS = {Charge.FREE: 0, Charge.ATTEMPT: MAX_FAILED_ATTEMPTS, Charge.ENGINE_DEATH: MAX_ENGINE_DEATHS}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _limit_hit(answer: list[Any]) -> LimitHit:
    name, whose, number = (part.decode() for part in answer[1:4])
    return LimitHit(name=name, whose=whose, number=float(number), wait_s=answer[4] / 1000 if answer[4] >= 0 else None)


def _line(route: str, version: int = JOB_VERSION) -> str:
    """A worker stands only in lines of versions it knows, so a newer job waits and hides nobody."""
    return f"{version}:{route}"


class JobStore:
    def __init__(
        self,
        redis: Redis,
        lease_s: float = LEASE_SECONDS,
        reserve_s: float = RESERVE_SECONDS,
        retry_s: float = RETRY_SECONDS,
    ) -> None:
        self.redis = redis
        self.lease_s = lease_s
        self._reserve_s, self._retry_s = reserve_s, retry_s
        prelude = "".join((_SCRIPTS / f"{name}.lua").read_text() for name in _PRELUDE)
        self._scripts = {
            path.stem: redis.register_script(prelude + path.read_text())
            for path in _SCRIPTS.glob("*.lua")
            if path.stem not in _PRELUDE
        }

    async def admit(
        self,
        tenant: str,
        request_id: str,
        body_hash: str,
        job_id: str,
        ask: Ask = Ask(),  # noqa: B008  # frozen
    ) -> Admission:
        """Reserve the request id for this job, or say what it already belongs to, or which limit stands against it."""
        answer = await self._run(
            *("admit", job_id, body_hash, _ms(self._reserve_s), _ms(KEPT_SECONDS), tenant, ask.user_id or ""),
            *(_ms(ask.cost_s), ask.kind, _line(ask.route), int(ask.has_image), ask.workers, _ms(ask.max_wait_s)),
            record=(tenant, request_id),
        )
        if answer[0] == b"limited":
            return Admission(verdict=Verdict.LIMITED, limit=_limit_hit(answer))
        rate = Rate(number=answer[2], left=answer[3], full_s=answer[4] / 1000) if answer[2:] else None
        return Admission(verdict=Verdict(answer[0].decode()), job_id=answer[1].decode(), rate=rate)

    async def read(self, tenant: str) -> LimitHit | None:
        """Count one read of the tenant's; the limit that stands against it, if one does."""
        answer = await self._run("read", tenant)
        return _limit_hit(answer) if answer else None

    async def find(self, tenant: str, request_id: str) -> tuple[str, str] | None:
        """The job id and body hash that were accepted under this request id."""
        job_id, body_hash, accepted = await self.redis.hmget(  # type: ignore[misc]
            keys.idempotency(tenant, request_id), ["job_id", "body_hash", "accepted"]
        )
        return (job_id.decode(), body_hash.decode()) if accepted else None

    async def accept(self, job: Job, origin: Origin | None = None) -> str:
        """Write the job for good; the id of the winner if another copy overtook us, empty if its body differs.

        Where the request came from goes to the audit and is not kept in the record.
        """
        fields = {
            "tenant": job.tenant,
            "key_id": job.key_id,
            "request_id": job.request_id,
            "model": job.spec.model,
            "seconds": job.spec.duration_s,
            "start_within": _ms(job.start_within_s),
            "run_limit": _ms(job.run_limit_s),
        } | ({"user_id": job.user_id} if job.user_id else {})
        fields |= {"image": job.spec.image.key} if job.spec.image else {}
        fields |= {"adapter": job.plan.adapter} if job.plan.adapter else {}
        if origin is not None:
            fields["origin"] = origin.model_dump_json()
        try:
            winner = await self._run(
                *("accept", job.id, job.model_dump_json(), job.body_hash, _line(job.route, job.version), job.route),
                *(job.priority, _ms(KEPT_SECONDS), _ms(job.cost_s), job.tenant, job.user_id or "", job.plan.kind),
                *(part for pair in fields.items() for part in pair),
                record=(job.tenant, job.request_id),
            )
        except ResponseError as exc:
            if str(exc).startswith("AUDITFULL"):
                raise AuditFull from exc
            raise
        return str(winner.decode())

    async def release(self, tenant: str, request_id: str, job_id: str) -> None:
        """Give a reservation back after a refusal."""
        await self._run("release", job_id, tenant, record=(tenant, request_id))

    async def get(self, job_id: str) -> JobRecord | None:
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.job(job_id))
            pipe.lrange(keys.attempts(job_id), 0, -1)
            fields, attempts = await pipe.execute()
        return read_record(fields, attempts) if fields else None

    async def newest(self, tenant: str, limit: int, after: str = "") -> list[JobRecord] | None:
        """The tenant's newest jobs, or those accepted before `after`; None if that is not one of its jobs."""
        jobs = keys.tenant_jobs(tenant)
        rank = await self.redis.zrevrank(jobs, after) if after else -1
        if rank is None:
            return None
        # Deleted ones are passed over, so more may be read than are shown.
        found: list[JobRecord] = []
        while len(found) < limit and (ids := await self.redis.zrevrange(jobs, rank + 1, rank + limit)):
            records = await asyncio.gather(*(self.get(job_id.decode()) for job_id in ids))
            found += [record for record in records if record is not None and not record.is_deleted]
            rank += len(ids)
        return found[:limit]

    async def of_user(self, tenant: str, user_id: str) -> list[str]:
        """The jobs of one end user that there is a record of, deleted ones too."""
        ids = await self.redis.zrange(keys.tenant_jobs(tenant), 0, -1)
        found: list[str] = []
        for start in range(0, len(ids), JOBS_PER_CALL):
            some = [job_id.decode() for job_id in ids[start : start + JOBS_PER_CALL]]
            async with self.redis.pipeline(transaction=False) as pipe:
                for job_id in some:
                    pipe.hget(keys.job(job_id), "user_id")
                users = await pipe.execute()
            found += [job_id for job_id, user in zip(some, users, strict=True) if user == user_id.encode()]
        return found

    async def place(self, job_id: str, workers: int = 1) -> Place | None:
        """Where a job stands in line and when it will start; None when it is not in line any more."""
        said = await self._run("place", job_id, workers, MAX_TENANTS_LOOKED_AT)
        return Place(position=said[0], start_s=said[1] / 1000, cost_s=said[2] / 1000) if said else None

    async def position(self, record: JobRecord) -> int | None:
        """The place in line, from 1; None when the job is not in line any more."""
        place = await self.place(record.job.id)
        return place.position if place else None

    async def reseat(self, tenant: str) -> None:
        """Let changed limits of a tenant change the order at once."""
        await self._run("reseat", tenant)

    async def claim(
        self, worker: str, routes: Sequence[str], nonce: str | None = None, adapter: str = ""
    ) -> Claim | None:
        """Take the job of these routes whose turn it is, or a near one with the adapter that the worker holds."""
        lines = [_line(route, version) for route in routes for version in KNOWN_VERSIONS]
        claimed = await self._run("claim", worker, nonce or secrets.token_hex(8), _ms(self.lease_s), adapter, *lines)
        return Claim(claimed[0].decode(), claimed[1].decode()) if claimed else None

    async def wait_for_work(self, routes: Sequence[str], timeout_s: float) -> None:
        """Sleep until a job joins one of these lines, or the time is over."""
        try:
            await self.redis.execute_command(  # type: ignore[no-untyped-call]
                "BLPOP", *(keys.wake(route) for route in routes), timeout_s
            )
        except RedisTimeoutError:
            await asyncio.sleep(0)

    async def beat(self, claim: Claim) -> Hold:
        return await self._hold("beat", claim, _ms(self.lease_s))

    async def report(self, claim: Claim, stage: Stage, progress: float) -> Hold:
        return await self._hold("report", claim, "stage", stage.value, "progress", f"{progress:.4f}")

    async def prepared(self, claim: Claim, prompt: str, by: str) -> Hold:
        """Record the prompt as it will be rendered; a later attempt uses it again."""
        return await self._hold("report", claim, "prompt", prompt, "prompt_by", by)

    async def checkpointed(self, claim: Claim, key: str, step: int) -> Hold:
        return await self._hold("checkpointed", claim, key, step)

    async def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """Publish the outcome; False if another worker holds the job by now."""
        code, message = outcome.error_code or "", outcome.error_message or ""
        said = (outcome.state.value, outcome.model_dump_json(), code, message)
        device_s = measured_seconds(outcome.rendered.stage_seconds)
        return bool(await self._run("finish", *claim, *said, "" if device_s is None else _ms(device_s)))

    async def requeue(self, claim: Claim, why: str, charge: Charge, detail: str = "") -> Requeue:
        """Hand the job back; it fails when this kind of trouble came too often."""
        error = PoisonJob() if charge is Charge.ENGINE_DEATH else error_for(why)
        limit, pause_ms = _CHARGE_LIMITS[charge], _ms(self._retry_s)
        how = await self._run("requeue", *claim, why, charge.value, limit, error.message, pause_ms, detail)
        return Requeue(how.decode())

    async def cancel(self, tenant: str, job_id: str) -> CancelVerdict:
        return CancelVerdict((await self._run("cancel", job_id, tenant, "")).decode())

    async def cancel_for_operator(self, job_id: str, operator: str) -> CancelVerdict:
        """Whosever job it is."""
        return CancelVerdict((await self._run("cancel", job_id, "", operator)).decode())

    async def retry(self, job_id: str, operator: str) -> Retry:
        """Put a failed job back in line, as if it had never been tried."""
        return Retry((await self._run("retry", job_id, operator, secrets.token_hex(8))).decode())

    async def pause(self, route: str, operator: str) -> bool:
        """Give out no job of this route, or of any for `*`; False if that was so already."""
        return bool(await self._run("pause", route, operator, 1))

    async def resume(self, route: str, operator: str) -> bool:
        return bool(await self._run("pause", route, operator, 0))

    async def forget(self, tenant: str, job_id: str) -> bool:
        """Mark an ended job's result as deleted; False while the job has not ended."""
        return bool(await self._run("forget", job_id, tenant))

    async def ended_before(self, when_ms: int, limit: int) -> list[JobRecord]:
        """The longest ended jobs."""
        ids = await self.redis.zrangebyscore(keys.schedule("ended"), "-inf", when_ms, start=0, num=limit)
        records = await asyncio.gather(*(self.get(job_id.decode()) for job_id in ids))
        return [record for record in records if record is not None]

    async def expire(self, job: Job, when_ms: int) -> bool:
        """Drop the record of a job that ended before then; the audit stays."""
        return bool(await self._run("expire", job.id, when_ms, record=(job.tenant, job.request_id)))

    async def reap(self) -> list[str]:
        """Hand on jobs whose lease ended, end those past a deadline, line up those whose pause is over; the ids
        handed on or ended."""
        said = [error().message for error in (PoisonJob, StartedTooLate, RanTooLong)]
        gap = _ms(REAP_GAP_SECONDS)
        ids = await self._run("reap", _ms(self.lease_s), gap, REAPED_PER_CALL, MAX_LOST_LEASES, *said)
        return [job_id.decode() for job_id in ids]

    async def _hold(self, script: str, claim: Claim, *args: str | float) -> Hold:
        return Hold((await self._run(script, *claim, *args)).decode())

    async def _run(self, script: str, *args: Any, record: tuple[str, str] | None = None) -> Any:
        where = [*_KEYS, keys.idempotency(*record), keys.tenant_jobs(record[0])] if record else _KEYS
        return await self._scripts[script](keys=where, args=list(args))
