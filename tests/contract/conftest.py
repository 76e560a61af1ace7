from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from server.app import create_app
from server.deps import House
from server.settings import GatewaySettings


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(redis_url=redis_url, state=tmp_path, public_url="http://gateway.test")


@pytest.fixture
async def house(settings: GatewaySettings) -> AsyncIterator[House]:
    """A running gateway's parts; the app is reached through `client`."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        app.state.house.app = app
        yield app.state.house


@pytest.fixture
async def key(house: House) -> str:
    return await house.ring.create("acme", "test")


@pytest.fixture
async def client(house: House, key: str) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=house.app, raise_app_exceptions=False)  # type: ignore[attr-defined]
    headers = {"Authorization": f"Bearer {key}"}
    base = "http://gateway.test/api/paas/v4"
    async with httpx2.AsyncClient(transport=transport, base_url=base, headers=headers) as open_client:
        yield open_client
