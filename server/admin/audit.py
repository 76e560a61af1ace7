"""The audit trail: searched, checked, and one end user's content erased."""

import contextlib
import io
import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import Field

from server.admin.body import read
from server.deps import TheHouse, TheOperator
from video_jobs.audit.ledger import Erasure
from video_jobs.audit.search import Query, search
from video_jobs.audit.sheet import AuditSheet
from video_jobs.audit.verify import verify
from video_jobs.limits import NAME, Closed
from video_jobs.sweeper import Sweeper

router = APIRouter()

MOST, SHOWN = 10_000, 1000


class Erase(Closed):
    tenant: str = Field(pattern=NAME)
    user_id: str = Field(min_length=1, max_length=128)
    jobs: bool = False
    """Forget the user's jobs that have ended too, and their videos."""


@router.get("/audit")
async def search_audit(
    house: TheHouse,
    tenant: str = "",
    user: str = "",
    task: str = "",
    event: str = "",
    since_ms: int = 0,
    until_ms: int = 1 << 62,
    limit: int = SHOWN,
    format: str = "",
) -> Response:
    """Records, oldest first, in Redis and the exported files alike; sealed ones, so about a second late."""
    named = {"tenant": tenant, "user_id": user, "task_id": task, "event": event}
    query = Query(since_ms=since_ms, until_ms=until_ms, **{name: text or None for name, text in named.items()})
    found: list[dict[str, Any]] = []
    most = min(max(1, limit), MOST)
    async with contextlib.aclosing(search(house.audit.trail, query)) as records:
        async for record in records:
            found.append(record)
            if len(found) > most:
                break
    has_more = len(found) > most
    if format == "csv":
        return PlainTextResponse(
            _sheet(found[:most]), media_type="text/csv", headers={"Has-More": "true"} if has_more else {}
        )
    return JSONResponse({"records": found[:most], "has_more": has_more})


@router.get("/audit/verify")
async def verify_audit(house: TheHouse) -> dict[str, Any]:
    """Reads everything: minutes for a long trail. The command line does the same without keeping a gateway busy."""
    office = house.audit
    reports = [
        await verify(office.archive, office.ledger, chain, office.trust) for chain in await office.trail.chains()
    ]
    return {
        "ok": not any(report.bad for report in reports),
        "chains": [
            {
                **{"chain_id": report.chain_id, "records": report.records, "erased": report.erased},
                **{"first_bad_record": report.bad.seq if report.bad else None},
                **{"why": report.bad.why if report.bad else None},
            }
            for report in reports
        ],
    }


@router.post("/audit/erase")
async def erase_content(request: Request, house: TheHouse, operator: TheOperator) -> dict[str, Any]:
    """Asks the sealer to delete one end user's content; done within seconds."""
    wanted = await read(request, Erase)
    ended, left = 0, len(await house.store.of_user(wanted.tenant, wanted.user_id))
    if wanted.jobs:
        ended, left = await Sweeper(house.store, house.results, 0).sweep_user(wanted.tenant, wanted.user_id)
    erasure = Erasure(id=secrets.token_hex(8), tenant=wanted.tenant, user_id=wanted.user_id, by=operator.key_id)
    await house.audit.ledger.ask_to_erase(erasure)
    return {"asked": True, "jobs_forgotten": ended, "jobs_left": left}


@router.get("/audit/key")
async def show_audit_key(house: TheHouse) -> dict[str, str]:
    """The public key of the checkpoints."""
    return {"public_key": house.audit.key.public.hex()}


def _sheet(records: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    sheet = AuditSheet(out)
    for record in records:
        sheet.add(record)
    return out.getvalue()
