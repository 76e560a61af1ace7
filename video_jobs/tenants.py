"""The book of tenants and plans. The scripts read the same records, so a changed limit holds for the next request."""

import json
import re
import time
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar, cast

from video_jobs import keys
from video_jobs.limits import DEFAULT_PLAN, NAME, Limits, Tenant, Terms
from video_jobs.store import JobStore

PLANS, TENANTS = "plan", "tenant"
REMEMBERED_SECONDS = 3.0

AnyTerms = TypeVar("AnyTerms", bound=Terms)


class BadName(ValueError):
    """A name is 1 to 64 letters, digits, dots, dashes or underscores, and starts with a letter or digit."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r}: {self.__doc__}")


class TenantBook:
    def __init__(self, store: JobStore) -> None:
        self._store, self.redis = store, store.redis
        self._remembered: dict[str, tuple[float, Tenant]] = {}

    async def plans(self) -> dict[str, Terms]:
        return {name: await self._read(PLANS, name, Terms) or Terms() for name in await self._names(PLANS)}

    async def tenants(self) -> dict[str, Tenant]:
        return {name: await self._read(TENANTS, name, Tenant) or Tenant() for name in await self._names(TENANTS)}

    async def plan(self, name: str) -> Terms | None:
        return await self._read(PLANS, name, Terms)

    async def tenant(self, name: str) -> Tenant | None:
        return await self._read(TENANTS, name, Tenant)

    async def put_plan(self, name: str, plan: Terms) -> bool:
        """Write the plan whole; False if it stood there like this."""
        if not await self._write(PLANS, name, plan):
            return False
        for tenant, known in (await self.tenants()).items():
            if known.plan == name:
                await self._store.reseat(tenant)
        return True

    async def put_tenant(self, name: str, tenant: Tenant) -> bool:
        """Write the tenant whole; False if it stood there like this."""
        changed = await self._write(TENANTS, name, tenant)
        if changed:
            await self._store.reseat(name)
        return changed

    async def add_default_plan(self) -> bool:
        """The plan of tenants nobody gave one, unless an operator has written it; True: it is there."""
        if await self.plan("default") is None:
            await self.put_plan("default", DEFAULT_PLAN)
        return True

    async def welcome(self, name: str) -> None:
        """Write a tenant down that nobody has written yet: it has the default plan's terms."""
        if await self.tenant(name) is None:
            await self.put_tenant(name, Tenant())

    async def terms(self, name: str) -> Tenant:
        """What holds for this tenant: its own terms, and its plan's where it has none."""
        own = await self.tenant(name) or Tenant()
        plan = await self.plan(own.plan) or Terms()
        limits = {**plan.limits.model_dump(), **own.limits.model_dump(exclude_unset=True)}
        return own.model_copy(
            update={
                "weight": own.weight or plan.weight,
                "service_class": own.service_class or plan.service_class,
                "policy": plan.policy if own.policy is None else own.policy,
                "limits": Limits(**limits),
            }
        )

    async def lately(self, name: str) -> Tenant:
        """The terms as they were within the last few seconds."""
        known = self._remembered.get(name)
        if known is None or known[0] < time.monotonic():
            known = self._remembered[name] = (time.monotonic() + REMEMBERED_SECONDS, await self.terms(name))
        return known[1]

    async def standing(self, name: str) -> dict[str, int]:
        """What the tenant has open now: jobs queued, running, and requests being admitted."""
        found = await self._hash(keys.tenancy("open", name))
        return {state: int(found.get(state, 0)) for state in ("queued", "running", "held")}

    async def _names(self, kind: str) -> list[str]:
        found = await cast(Awaitable[set[bytes]], self.redis.smembers(keys.tenancy(f"{kind}s")))
        return sorted(name.decode() for name in found)

    async def _hash(self, key: str) -> dict[str, str]:
        found = await cast(Awaitable[dict[bytes, bytes]], self.redis.hgetall(key))
        return {name.decode(): value.decode() for name, value in found.items()}

    async def _read(self, kind: str, name: str, model: type[AnyTerms]) -> AnyTerms | None:
        fields = await self._hash(keys.tenancy(kind, name))
        return _parse(fields, model) if fields else None

    async def _write(self, kind: str, name: str, terms: Terms) -> bool:
        if not re.fullmatch(NAME, name):
            raise BadName(name)
        key, fields = keys.tenancy(kind, name), _flat(terms)
        if await self._hash(key) == fields:
            return False
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.delete(key)
            pipe.hset(key, mapping=cast(dict[Any, Any], fields))
            pipe.sadd(keys.tenancy(f"{kind}s"), name)
            await pipe.execute()
        return True


def _flat(terms: Terms) -> dict[str, str]:
    """One field for each term and limit; a limit that is lifted by name is an empty one."""
    fields = {name: _text(value) for name, value in terms.limits.model_dump(exclude_unset=True).items()}
    own = terms.model_dump(exclude={"limits", "policy"}, exclude_none=True)
    fields |= {name: _text(value) for name, value in own.items()} | {"version": "1"}
    return fields if terms.policy is None else fields | {"policy": terms.policy.model_dump_json(exclude_unset=True)}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return "" if value is None else str(value)


def _parse(fields: Mapping[str, str], model: type[AnyTerms]) -> AnyTerms:
    limits = {name: fields[name] or None for name in Limits.model_fields if name in fields}
    own = {name: fields[name] for name in model.model_fields if name in fields and name not in ("limits", "policy")}
    policy = json.loads(fields["policy"]) if "policy" in fields else None
    return model.model_validate({**own, "limits": limits, "policy": policy})
