"""Measures against one end user of a tenant: warned, throttled or blocked, why, and until when."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field

from server.admin.body import read
from server.admin.tenants import checked
from server.deps import TheHouse, TheOperator
from server.refusal import Refusal
from video_jobs.limits import Closed
from video_jobs.policy.users import Measure, Restriction

router = APIRouter()

LATEST_MS = 1 << 52


class Wanted(Closed):
    user_id: str = Field(min_length=1, max_length=128)
    measure: Measure
    reason: str = Field(min_length=1, max_length=500)
    until_ms: int | None = Field(default=None, gt=0, lt=LATEST_MS)
    per_minute: int = Field(default=1, ge=1)


class Lifted(Closed):
    user_id: str = Field(min_length=1, max_length=128)


@router.get("/tenants/{tenant}/users")
async def list_restricted(tenant: str, house: TheHouse) -> dict[str, Any]:
    held = await house.policy.users.list(checked(tenant))
    return {"users": [restriction.model_dump(mode="json") for restriction in held]}


@router.put("/tenants/{tenant}/users")
async def restrict_user(tenant: str, request: Request, house: TheHouse, operator: TheOperator) -> dict[str, Any]:
    """Holds for the user's next request, in place of what held before."""
    wanted = await read(request, Wanted)
    given = {"tenant": checked(tenant), "by": operator.key_id} | wanted.model_dump()
    restriction = Restriction.model_validate(given)
    await house.policy.users.restrict(restriction)
    return restriction.model_dump(mode="json")


@router.delete("/tenants/{tenant}/users")
async def lift_restriction(tenant: str, request: Request, house: TheHouse) -> dict[str, Any]:
    wanted = await read(request, Lifted)
    if not await house.policy.users.lift(checked(tenant), wanted.user_id):
        raise Refusal("1214", "user_id")
    return {"user_id": wanted.user_id, "lifted": True}
