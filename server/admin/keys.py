"""A tenant's keys: made and rolled (shown once), imported, listed without secrets, revoked."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field

from server.admin.body import read
from server.admin.tenants import checked
from server.auditor import origin_of
from server.deps import House, TheHouse, TheOperator
from server.grants import ApiKey, KeyTerms
from server.keys import BadKey, KeyKnown
from server.refusal import Refusal
from server.tokens import Caller
from video_jobs.limits import Closed

router = APIRouter()

HOUR, MONTH = 3600, 31 * 24 * 3600


class NewKey(KeyTerms):
    name: str = Field(default="", max_length=200)

    @property
    def terms(self) -> KeyTerms:
        return KeyTerms.model_validate(self.model_dump(exclude={"name", "key"}))


class HeldKey(NewKey):
    """A key that clients hold already, a Zhipu one for instance."""

    key: str


class Roll(Closed):
    overlap_s: float = Field(default=HOUR, ge=0, le=MONTH)


@router.get("/tenants/{tenant}/keys")
async def list_keys(tenant: str, house: TheHouse) -> dict[str, Any]:
    return {"keys": [describe(key) for key in await house.ring.list(checked(tenant))]}


@router.post("/tenants/{tenant}/keys")
async def create_key(tenant: str, request: Request, house: TheHouse, operator: TheOperator) -> dict[str, Any]:
    """The whole key, this once."""
    body = await read(request, NewKey)
    await house.book.welcome(checked(tenant))
    return await _shown(await house.ring.create(tenant, body.name, body.terms), house, operator, tenant)


@router.post("/tenants/{tenant}/keys/import")
async def import_key(tenant: str, request: Request, house: TheHouse) -> dict[str, Any]:
    body = await read(request, HeldKey)
    await house.book.welcome(checked(tenant))
    try:
        return {"id": await house.ring.take_in(body.key, tenant, body.name, body.terms)}
    except (BadKey, KeyKnown) as exc:
        raise Refusal("1214", "key", str(exc)) from exc


@router.get("/keys/{key_id}")
async def show_key(key_id: str, house: TheHouse) -> dict[str, Any]:
    if (key := await house.ring.read(key_id)) is None:
        raise Refusal("1214", "key_id")
    return describe(key)


@router.post("/keys/{key_id}/roll")
async def roll_key(key_id: str, request: Request, house: TheHouse, operator: TheOperator) -> dict[str, Any]:
    """A new key with the same terms, shown this once; the old one works until the overlap ends."""
    whole = await house.ring.roll(key_id, (await read(request, Roll)).overlap_s)
    if whole is None:
        raise Refusal("1214", "key_id")
    return await _shown(whole, house, operator)


@router.delete("/keys/{key_id}")
async def revoke_key(key_id: str, house: TheHouse) -> dict[str, Any]:
    """Every gateway refuses the key within 5 s."""
    if not await house.ring.revoke(key_id):
        raise Refusal("1214", "key_id")
    return {"id": key_id, "revoked": True}


def describe(key: ApiKey) -> dict[str, Any]:
    terms = key.terms
    return {
        **{"id": key.id, "tenant": key.tenant, "name": key.name, "state": key.state, "created": key.created},
        **{"scopes": sorted(terms.scopes), "expires": terms.expires, "models": sorted(terms.models)},
        **{"networks": terms.networks, "revoked": key.revoked, "rolled_to": key.rolled_to},
    }


async def _shown(whole: str, house: House, operator: Caller, tenant: str = "") -> dict[str, Any]:
    """Which key it became is on record before it is shown: the call was, before there was one."""
    key_id = whole.partition(".")[0]
    await house.audit.log.admin(operator.key_id, "key made", key_id, origin_of(operator), tenant)
    return {"id": key_id, "key": whole}
