"""The operators' API: shut to everybody without a living key of scope `admin`, on every route there is or will be."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import jwt
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from server.app import create_app
from server.deps import House
from server.grants import KeyTerms, Scope
from server.settings import GatewaySettings

ADMIN = KeyTerms(scopes=frozenset({Scope.ADMIN}))


def admin_routes() -> Iterator[tuple[str, str]]:
    """Every route under /admin of the app as it is served."""
    for route in iter_route_contexts(create_app(GatewaySettings(state=Path("unused"))).routes):
        if route.path.startswith("/admin"):
            for method in sorted(route.methods | ({"HEAD"} if "GET" in route.methods else set())):
                yield method, route.path


ROUTES = sorted(admin_routes())


@pytest.fixture
async def operator(house: House) -> str:
    return await house.ring.create("operators", "on call", ADMIN)


async def send(client: httpx2.AsyncClient, method: str, path: str, authorization: str | None) -> httpx2.Response:
    client.headers.pop("Authorization", None)
    filled = path.replace("{name}", "acme").replace("{tenant}", "acme").replace("{key_id}", "cvx-0")
    headers = {"Authorization": authorization} if authorization is not None else {}
    return await client.request(method, f"http://gateway.test{filled}", headers=headers)


def test_there_are_admin_routes_to_test() -> None:
    assert len(ROUTES) > 10
    assert {path for _, path in ROUTES} > {"/admin/v1/tenants", "/admin/v1/usage", "/admin/v1/keys/{key_id}"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_route_refuses_everybody_but_an_operator(
    client: httpx2.AsyncClient, house: House, key: str, operator: str, method: str, path: str
) -> None:
    past = KeyTerms(scopes=ADMIN.scopes, expires=int(time.time()) - 1)
    expired = await house.ring.create("operators", "old", past)
    revoked = await house.ring.create("operators", "lost", ADMIN)
    await house.ring.revoke(revoked.partition(".")[0])
    elsewhere = await house.ring.create("operators", "vpn", ADMIN.model_copy(update={"networks": ("10.0.0.0/8",)}))
    tenant_id, _, secret = key.partition(".")
    forged = jwt.encode({"api_key": operator.partition(".")[0], "exp": int(time.time()) + 60}, secret, "HS256")
    stale = jwt.encode(
        {"api_key": operator.partition(".")[0], "exp": int(time.time()) - 999}, operator.partition(".")[2], "HS256"
    )
    no = {
        "missing": (None, 401),
        "empty": ("", 401),
        "nonsense": ("Bearer nonsense", 401),
        "tenant's": (f"Bearer {key}", 403),
        "tenant's id, operator's secret": (f"{tenant_id}.{operator.partition('.')[2]}", 401),
        "expired": (f"Bearer {expired}", 401),
        "revoked": (f"Bearer {revoked}", 401),
        "from elsewhere": (f"Bearer {elsewhere}", 403),
        "forged": (f"Bearer {forged}", 401),
        "stale": (f"Bearer {stale}", 401),
    }

    got = {who: (await send(client, method, path, header)).status_code for who, (header, _) in no.items()}

    assert got == {who: status for who, (_, status) in no.items()}
    assert (await send(client, method, path, f"Bearer {operator}")).status_code not in (401, 403, 500)


@pytest.mark.parametrize(
    "path", ["/admin/v1/tenants/", "//admin//v1/nothing", "/ADMIN/v1/tenants", "/admin/v1/%2e%2e/x"]
)
async def test_odd_spellings_of_a_path_open_nothing(client: httpx2.AsyncClient, operator: str, path: str) -> None:
    assert (await send(client, "GET", path, None)).status_code == 404
    assert (await send(client, "GET", path, operator)).status_code == 404


async def test_headers_cannot_rewrite_the_path(client: httpx2.AsyncClient, key: str) -> None:
    headers = {"X-Original-URL": "/admin/v1/tenants", "X-Rewrite-URL": "/admin/v1/tenants"}
    headers |= {"X-HTTP-Method-Override": "GET", "Authorization": key}
    reply = await client.post("http://gateway.test/healthz", headers=headers)

    assert reply.status_code == 405
    assert "tenants" not in reply.text


async def test_operator_key_opens_nothing_of_the_tenants(client: httpx2.AsyncClient, operator: str) -> None:
    client.headers["Authorization"] = operator

    assert (await client.get("/async-result/1")).json()["error"]["code"] == "1220"
    assert (await client.post("/videos/generations", json={})).json()["error"]["code"] == "1220"


async def test_own_port_parts_operators_from_tenants(settings: GatewaySettings) -> None:
    app = create_app(settings.model_copy(update={"admin_port": 9443}))
    async with app.router.lifespan_context(app):
        house: House = app.state.house
        keys = [await house.ring.create("acme"), await house.ring.create("operators", "", ADMIN)]
        found = {}
        for port in (8000, 9443):
            for path in ("/admin/v1/tenants", "/api/paas/v4/async-result/1"):
                found[port, path] = [await answer_on(app, port, path, key) for key in keys]

    assert found == {
        (8000, "/admin/v1/tenants"): ["1222", "1222"],
        (8000, "/api/paas/v4/async-result/1"): ["1214", "1220"],
        (9443, "/admin/v1/tenants"): ["1220", "ok"],
        (9443, "/api/paas/v4/async-result/1"): ["1222", "1222"],
    }


async def answer_on(app: FastAPI, port: int, path: str, key: str) -> str:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    # The Host header names the other port: the socket counts.
    headers = {"Authorization": key, "Host": "gateway.test:9443" if port == 8000 else "gateway.test:8000"}
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://gateway.test:{port}") as client:
        return str((await client.get(path, headers=headers)).json().get("error", {}).get("code", "ok"))


async def test_life_of_a_key(client: httpx2.AsyncClient, operator: str) -> None:
    client.headers["Authorization"] = f"Bearer {operator}"
    base = "http://gateway.test/admin/v1"
    body = {"name": "web", "scopes": ["read"], "models": ["cogvideox-2"], "networks": ["10.1.2.3/8"]}

    made = (await client.post(f"{base}/tenants/acme/keys", json=body)).json()
    rolled = (await client.post(f"{base}/keys/{made['id']}/roll", json={"overlap_s": 60})).json()
    listed = {key["id"]: key for key in (await client.get(f"{base}/tenants/acme/keys")).json()["keys"]}

    assert listed[made["id"]]["rolled_to"] == rolled["id"]
    assert 50 <= listed[made["id"]]["expires"] - time.time() <= 61
    assert listed[rolled["id"]]["expires"] is None
    assert listed[rolled["id"]]["networks"] == ["10.0.0.0/8"]
    assert (await client.delete(f"{base}/keys/{rolled['id']}")).json()["revoked"]
    assert (await client.get(f"{base}/keys/{rolled['id']}")).json()["state"] == "revoked"
    assert (await client.delete(f"{base}/keys/{rolled['id']}")).status_code == 400
    assert (await client.get(f"{base}/tenants/acme")).json()["terms"]["plan"] == "default"
    everything = (await client.get(f"{base}/tenants/acme/keys")).text
    assert made["key"].partition(".")[2] not in everything


async def test_wrong_fields_are_named(client: httpx2.AsyncClient, operator: str) -> None:
    client.headers |= {"Authorization": f"Bearer {operator}", "Accept-Language": "en"}
    base = "http://gateway.test/admin/v1"
    for path, body, field in (
        ("plans/gold", {"limits": {"requests_per_minutes": 5}}, "limits.requests_per_minutes"),
        ("plans/gold", {"weight": -1}, "weight"),
        ("tenants/acme", {"plan": "unheard-of"}, "plan"),
        ("tenants/.acme", {}, "name"),
    ):
        reply = await client.put(f"{base}/{path}", json=body)
        assert reply.status_code == 400
        assert f"Invalid {field} parameter" in reply.json()["error"]["message"]
    reply = await client.post(f"{base}/tenants/acme/keys", json={"networks": ["10.0.0.0/33"]})
    assert "networks" in reply.json()["error"]["message"]
    assert (await client.post(f"{base}/tenants/acme/keys", content=b"{" + b" " * (1 << 20))).status_code == 413
