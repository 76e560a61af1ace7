"""What a route may ask for. The objects are opened once, in the app's lifespan."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from redis.asyncio import Redis

from server.body import Bodies
from server.images import ImageIntake
from server.intake import JobIntake
from server.keys import KeyRing
from server.metrics import GatewayMetrics
from server.settings import GatewaySettings
from server.tokens import Caller, authenticate
from video_jobs.links import Links, LinkSigner
from video_jobs.results import ResultStore
from video_jobs.store import JobStore


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


def get_house(request: Request) -> House:
    house: House = request.app.state.house
    return house


TheHouse = Annotated[House, Depends(get_house)]


async def get_caller(request: Request, house: TheHouse) -> Caller:
    return await authenticate(request.headers.getlist("authorization"), house.ring)


TheCaller = Annotated[Caller, Depends(get_caller)]
