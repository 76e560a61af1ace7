"""All of the operators' routes, behind one dependency: a route that is added here cannot be open."""

from fastapi import APIRouter, Depends

from server.admin import audit, keys, tenants, usage, users
from server.deps import get_operator

router = APIRouter(prefix="/admin/v1", dependencies=[Depends(get_operator)], include_in_schema=False)
router.include_router(tenants.router)
router.include_router(keys.router)
router.include_router(usage.router)
router.include_router(audit.router)
router.include_router(users.router)
