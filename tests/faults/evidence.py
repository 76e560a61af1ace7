"""Everything the checker reads, gathered before it judges: what callers saw, and what Redis, bucket and audit hold."""

import asyncio
import json
import urllib.request
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from tests.faults.callers import read_history
from tests.faults.fleet import Fleet
from tests.files import below
from video_jobs import keys
from video_jobs.audit.chain import read_line
from video_jobs.audit.office import AuditOffice, open_audit
from video_jobs.audit.verify import verify
from video_jobs.job import JobRecord
from video_jobs.queue import lazy_redis
from video_jobs.record import read_record

SEAL_SECONDS, SWEEP_SECONDS = 60.0, 20.0
CHARGES = ("engine_deaths", "lost_leases", "failed_attempts")


@dataclass
class Evidence:
    history: list[dict[str, Any]]
    events: list[dict[str, Any]]
    records: dict[str, JobRecord]
    charges: dict[str, dict[str, int]]
    leases: list[str]
    waiting: list[str]
    audit: list[dict[str, Any]]
    audit_seq: int
    audit_problem: str
    objects: dict[str, bytes]
    scratch: list[str] = field(default_factory=list)


async def gather(fleet: Fleet, folder: Path) -> Evidence:
    """While the gateways still run: one of them has yet to seal the last of the audit."""
    scratch = await _left_on(folder / "state" / "scratch")
    audit, newest, problem = await _audit(fleet)
    objects = await asyncio.to_thread(read_bucket, fleet.s3_endpoint, folder)
    records, charges = {}, {}
    with redis.Redis.from_url(fleet.redis_url) as client:
        for name in client.scan_iter(keys.JOB + "*", count=1000):
            job_id, fields = name.decode().removeprefix(keys.JOB), client.hgetall(name)
            records[job_id] = read_record(fields, client.lrange(keys.attempts(job_id), 0, -1))
            charges[job_id] = {charge: int(fields.get(charge.encode(), 0)) for charge in CHARGES}
        leases = [job_id.decode() for job_id in client.zrange(keys.LEASES, 0, -1)]
        lines = list(client.scan_iter(keys.WAITING + "*"))
        waiting = [job_id.decode() for line in lines for job_id in client.zrange(line, 0, -1)]
    return Evidence(
        history=read_history(folder),
        events=fleet.points.events(),
        records=records,
        charges=charges,
        leases=leases,
        waiting=waiting,
        audit=audit,
        audit_seq=newest,
        audit_problem=problem,
        objects=objects,
        scratch=scratch,
    )


async def _left_on(scratch: Path) -> list[str]:
    """The last attempts still tidy up, and workers that start again sweep what the dead left."""
    for _ in range(round(SWEEP_SECONDS / 0.2)):
        if not (left := [str(path) for path in below(scratch) if path.parent != scratch]):
            return left
        await asyncio.sleep(0.2)
    return left


async def _audit(fleet: Fleet) -> tuple[list[dict[str, Any]], int, str]:
    """The whole trail as the product's own verifier reads it; what it found wrong."""
    client = lazy_redis(fleet.redis_url)
    try:
        office = open_audit(fleet.audit_settings(), client)
        await _until_sealed(office)
        state = await office.ledger.state()
        report = await verify(office.archive, office.ledger, state.chain_id, office.trust)
        links = [read_line(line) async for batch in office.trail.read(state.chain_id) for line in batch.lines or []]
        records = [json.loads(link.record) for link in links if link]
        return records, state.newest, str(report.bad or "")
    finally:
        await client.aclose()


async def _until_sealed(office: AuditOffice) -> None:
    async with asyncio.timeout(SEAL_SECONDS):
        while (state := await office.ledger.state()).sealed < state.newest:
            await asyncio.sleep(0.2)


def read_bucket(endpoint: str, folder: Path) -> dict[str, bytes]:
    path = folder / "bucket.zip"
    told = json.dumps({"path": str(path)}).encode()
    urllib.request.urlopen(f"{endpoint}/_dump", data=told, timeout=300).close()
    with zipfile.ZipFile(path) as objects:
        return {name: objects.read(name) for name in objects.namelist()}
