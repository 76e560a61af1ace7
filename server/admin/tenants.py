"""Tenants and plans: read, and written whole."""

import re
from typing import Any

from fastapi import APIRouter, Request

from server.admin.body import read
from server.deps import TheHouse
from server.refusal import Refusal
from video_jobs.limits import NAME, Tenant, Terms

router = APIRouter()


@router.get("/plans")
async def list_plans(house: TheHouse) -> dict[str, Any]:
    return {"plans": {name: plan.model_dump(exclude_unset=True) for name, plan in (await house.book.plans()).items()}}


@router.put("/plans/{name}")
async def write_plan(name: str, request: Request, house: TheHouse) -> dict[str, Any]:
    """Holds for the next request of every tenant with this plan."""
    plan = await read(request, Terms)
    return {"name": checked(name), "changed": await house.book.put_plan(name, plan)}


@router.get("/tenants")
async def list_tenants(house: TheHouse) -> dict[str, Any]:
    found = await house.book.tenants()
    return {"tenants": {name: tenant.model_dump(exclude_unset=True) for name, tenant in found.items()}}


@router.get("/tenants/{name}")
async def show_tenant(name: str, house: TheHouse) -> dict[str, Any]:
    """The tenant as written, the terms that hold for it, and where it stands."""
    own = await house.book.tenant(checked(name))
    if own is None:
        raise Refusal("1214", "name")
    terms = await house.book.terms(name)
    return {
        "name": name,
        "own": own.model_dump(exclude_unset=True),
        "terms": terms.model_dump(exclude_none=True),
        "standing": await house.book.standing(name),
    }


@router.put("/tenants/{name}")
async def write_tenant(name: str, request: Request, house: TheHouse) -> dict[str, Any]:
    """Holds for the tenant's next request."""
    tenant = await read(request, Tenant)
    if tenant.plan != "default" and await house.book.plan(tenant.plan) is None:
        raise Refusal("1214", "plan")
    return {"name": checked(name), "changed": await house.book.put_tenant(name, tenant)}


def checked(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise Refusal("1214", "name")
    return name
