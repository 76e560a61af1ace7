"""What a route may ask for. The objects are opened once, in the app's lifespan."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from redis.asyncio import Redis

from server.admin.body import receive, told
from server.auditor import agent_of, origin_of
from server.body import Bodies
from server.clients import Network, client_address
from server.grants import Scope
from server.images import ImageIntake
from server.intake import JobIntake
from server.keys import KeyRing
from server.limits import refusal_of
from server.metrics import GatewayMetrics
from server.policing import ContentPolicy
from server.refusal import Refusal
from server.settings import GatewaySettings
from server.tokens import Caller, authenticate
from video_jobs.audit.office import AuditOffice
from video_jobs.links import Links, LinkSigner
from video_jobs.logs import redact
from video_jobs.results import ResultStore
from video_jobs.store import JobStore
from video_jobs.tenants import TenantBook
from video_jobs.tracing import Traces


@dataclass
class House:
    """Everything a running gateway holds."""

    settings: GatewaySettings
    redis: Redis
    store: JobStore
    ring: KeyRing
    results: ResultStore
    signer: LinkSigner
    links: Links
    bodies: Bodies
    images: ImageIntake
    intake: JobIntake
    metrics: GatewayMetrics
    traces: Traces
    book: TenantBook
    audit: AuditOffice
    policy: ContentPolicy
    proxies: tuple[Network, ...] = ()


def get_house(request: Request) -> House:
    house: House = request.app.state.house
    return house


TheHouse = Annotated[House, Depends(get_house)]


async def get_caller(request: Request, house: TheHouse) -> Caller:
    """Whoever reads needs the scope `read`, whoever does anything else `generate`."""
    if house.settings.admin_port and is_admin_port(request, house.settings):
        raise Refusal("1222", status=404)
    is_read = request.method in ("GET", "HEAD")
    caller = await authorised(request, house, Scope.READ if is_read else Scope.GENERATE)
    if is_read and (hit := await house.store.read(caller.tenant)):
        raise refusal_of(hit)
    return caller


async def get_operator(request: Request, house: TheHouse) -> Caller:
    """A caller with a key of scope `admin`, on the operators' port if there is one."""
    if house.settings.admin_port and not is_admin_port(request, house.settings):
        raise Refusal("1222", status=404)
    operator = await authorised(request, house, Scope.ADMIN)
    request.state.raw = b""
    try:
        request.state.raw = await receive(request)
    finally:
        # On record before anything is done: what cannot be audited is not done.
        call = redact(f"{request.method} {request.url.path}")
        about = redact(request.url.query) or told(request.state.raw)
        await house.audit.log.admin(operator.key_id, call, about, origin_of(operator), _tenant_named(request))
    return operator


def _tenant_named(request: Request) -> str:
    """So that a tenant's records tell what operators did to it."""
    is_tenant = request.url.path.startswith("/admin/v1/tenants/")
    return str(request.path_params.get("tenant") or request.path_params.get("name", "")) if is_tenant else ""


async def authorised(request: Request, house: House, scope: Scope) -> Caller:
    caller = await authenticate(request.headers.getlist("authorization"), house.ring)
    address = client_address(request, house.proxies)
    caller = request.state.caller = caller._replace(address=address, user_agent=agent_of(request))
    if not caller.terms.allow(address):
        raise Refusal("1220", detail="key_network")
    if scope not in caller.terms.scopes:
        raise Refusal("1220", detail="key_scope")
    return caller


def is_admin_port(request: Request, settings: GatewaySettings) -> bool:
    """By the socket that took the connection; no header says so."""
    taken_by = request.scope.get("server")
    return bool(taken_by and taken_by[1] == settings.admin_port)


TheCaller = Annotated[Caller, Depends(get_caller)]
TheOperator = Annotated[Caller, Depends(get_operator)]
