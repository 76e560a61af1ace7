"""Tenants and plans as a YAML file says: applied whole, again and again without effect, closed against misspelling."""

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import StringConstraints, ValidationError
from redis.exceptions import RedisError

from video_jobs.audit.log import AuditLog
from video_jobs.limits import NAME, Closed, Tenant, Terms
from video_jobs.tenants import TenantBook

LOOK_EVERY_SECONDS = 5.0

Name = Annotated[str, StringConstraints(pattern=NAME)]
logger = logging.getLogger(__name__)


class BadFile(ValueError):
    """The file does not say what tenants there are; nothing of it was applied."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{self.__doc__} {why}")


class Declared(Closed):
    plans: dict[Name, Terms] = {}
    tenants: dict[Name, Tenant] = {}


class UniqueKeys(yaml.SafeLoader):
    """A name that stands twice in a mapping is a mistake, not an override."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        read: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(read) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a name stands twice", node.start_mark)
        return read


def parse(text: str | bytes) -> Declared:
    try:
        # A safe loader: plain values alone.
        said = yaml.load(text, UniqueKeys)  # noqa: S506
        return Declared.model_validate(said or {})
    except ValidationError as exc:
        first = exc.errors()[0]
        raise BadFile(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        # The loader lets through what dates that do not exist and nesting without end raise.
        raise BadFile(" ".join(str(exc).split())) from exc


async def apply(declared: Declared, book: TenantBook) -> list[str]:
    """Write what differs; what was written. Tenants and plans that the file does not name stay as they are."""
    known = {"default", *declared.plans, *await book.plans()}
    for name, tenant in declared.tenants.items():
        if tenant.plan not in known:
            raise BadFile(f"tenants.{name}.plan: there is no plan {tenant.plan}")
    changed = [f"plan {name}" for name, plan in declared.plans.items() if await book.put_plan(name, plan)]
    return changed + [
        f"tenant {name}" for name, tenant in declared.tenants.items() if await book.put_tenant(name, tenant)
    ]


async def keep_applied(
    path: Path | None, book: TenantBook, every_s: float = LOOK_EVERY_SECONDS, log: AuditLog | None = None
) -> None:
    """The default plan once, and the file whenever it changes. A bad file changes nothing and is told once."""
    applied, has_default = "", False
    while path or not has_default:
        try:
            has_default = has_default or await book.add_default_plan()
            text = await asyncio.to_thread(path.read_bytes) if path else b""
            digest = hashlib.sha256(text).hexdigest()
            if path and digest != applied:
                await _apply_or_tell(text, book, log)
                applied = digest
        except (RedisError, OSError) as exc:
            logger.warning("tenants not applied yet", extra={"error": repr(exc)})
        await asyncio.sleep(every_s)


async def _apply_or_tell(text: bytes, book: TenantBook, log: AuditLog | None) -> None:
    try:
        if changed := await apply(parse(text), book):
            logger.info("tenants applied", extra={"changed": changed})
            if log:
                await log.admin("tenants file", "applied", ", ".join(changed))
    except BadFile as exc:
        logger.error("tenants file refused", extra={"error": str(exc)})
