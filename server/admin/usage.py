"""What tenants used: per day, tenant, key, model and end user, as JSON or CSV."""

import io
from datetime import date

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from server.deps import TheHouse
from server.refusal import Refusal
from video_jobs.sheet import write_csv
from video_jobs.usage import GROUPS, METRICS, UsageBook

router = APIRouter()


@router.get("/usage")
async def read_usage(
    house: TheHouse, since: str = "", until: str = "", tenant: str = "", user: str = "", by: str = "", format: str = ""
) -> Response:
    """Days by UTC, both ends included; today when none is named. `by` names what the rows are summed by."""
    groups = tuple(filter(None, by.split(","))) or GROUPS
    if not set(groups) <= set(GROUPS):
        raise Refusal("1214", "by", ", ".join(GROUPS))
    first, last = _day("since", since), _day("until", until)
    rows = await UsageBook(house.redis).read(first, last, tenant or None, user or None, groups)
    if format == "csv":
        sheet = io.StringIO()
        write_csv(sheet, [*groups, *METRICS], rows)
        return PlainTextResponse(sheet.getvalue(), media_type="text/csv")
    return JSONResponse({"usage": rows})


def _day(field: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as exc:
        raise Refusal("1214", field, "YYYY-MM-DD") from exc
