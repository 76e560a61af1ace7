"""What a key may do, until when, with which models and from where; rolled with an overlap; brought along from Zhipu."""

import re
import time

import httpx2
import jwt
import pytest

from server.clients import client_address
from server.deps import House
from server.grants import KeyTerms, Scope
from server.keys import BadKey, KeyKnown, KeyRing, MasterKeyLost
from server.settings import GatewaySettings
from video_jobs.limits import Tenant
from video_jobs.tenants import BadName

BODY = {"model": "cogvideox-2", "prompt": "a cat", "size": "720x480"}
# The form that a scanner looks for.
WRITTEN = re.compile(r"cvx-[0-9A-Za-z]{16}\.[0-9A-Za-z]{49}")


async def answers(client: httpx2.AsyncClient, key: str, **headers: str) -> tuple[str, str]:
    """How a submit and a read end: `ok`, or the business code."""
    headers = {"Authorization": f"Bearer {key}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    made = await client.post("/videos/generations", json=BODY, headers=headers)
    read = await client.get("/videos/generations", headers=headers)
    codes = [reply.json().get("error", {}).get("code", "ok") for reply in (made, read)]
    return codes[0], codes[1]


async def test_scopes_part_reading_from_generating(client: httpx2.AsyncClient, house: House) -> None:
    found = {}
    for scope in Scope:
        key = await house.ring.create("acme", scope, KeyTerms(scopes=frozenset({scope})))
        found[scope] = await answers(client, key)

    assert found == {
        Scope.GENERATE: ("ok", "1220"),
        Scope.READ: ("1220", "ok"),
        Scope.ADMIN: ("1220", "1220"),
    }


async def test_key_serves_its_models_alone(client: httpx2.AsyncClient, house: House) -> None:
    key = await house.ring.create("acme", "", KeyTerms(models=frozenset({"cogvideox-3"})))
    headers = {"Authorization": key}

    refused = await client.post("/videos/generations", json=BODY, headers=headers)
    taken = await client.post("/videos/generations", json={"model": "cogvideox-3", "prompt": "a cat"}, headers=headers)

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "1220")
    assert taken.status_code == 200


async def test_expired_key_says_so_to_its_holder_alone(client: httpx2.AsyncClient, house: House) -> None:
    key = await house.ring.create("acme", "", KeyTerms(expires=int(time.time()) + 5))
    assert await answers(client, key) == ("ok", "ok")
    house.ring._cache.clear()
    # Remembered while it lived: its end counts all the same.
    assert await answers(client, key) == ("ok", "ok")
    time.sleep(5.1)

    assert await answers(client, key) == ("1003", "1003")
    assert await answers(client, f"{key[:-1]}#") == ("1000", "1000")


async def test_key_is_bound_to_its_networks(client: httpx2.AsyncClient, house: House) -> None:
    inside = await house.ring.create("acme", "", KeyTerms(networks=("127.0.0.0/8", "2001:db8::/32")))
    outside = await house.ring.create("acme", "", KeyTerms(networks=("10.1.0.0/16",)))

    assert await answers(client, inside) == ("ok", "ok")
    assert await answers(client, outside) == ("1220", "1220")
    assert await answers(client, outside, X_Forwarded_For="10.1.2.3") == ("1220", "1220"), "no proxy is trusted"


async def test_closed_tenant_is_shut_out_within_seconds(client: httpx2.AsyncClient, house: House, key: str) -> None:
    assert await answers(client, key) == ("ok", "ok")
    await house.book.put_tenant("acme", Tenant(enabled=False))
    house.ring._cache.clear()
    assert await answers(client, key) == ("1112", "1112")
    await house.book.put_tenant("acme", Tenant(enabled=True))
    house.ring._cache.clear()
    assert await answers(client, key) == ("ok", "ok")


async def test_rolled_key_works_through_the_overlap(client: httpx2.AsyncClient, house: House) -> None:
    terms = KeyTerms(models=frozenset({"cogvideox-2"}), networks=("127.0.0.1",))
    old = await house.ring.create("acme", "web", terms)

    new = await house.ring.roll(old.partition(".")[0], 1)

    assert new is not None
    rolled = await house.ring.read(new.partition(".")[0])
    assert rolled is not None
    assert (rolled.name, rolled.tenant, rolled.terms) == ("web", "acme", terms)
    assert await answers(client, old) == await answers(client, new) == ("ok", "ok")
    time.sleep(2.1)
    assert await answers(client, old) == ("1003", "1003")
    assert await answers(client, new) == ("ok", "ok")
    assert await house.ring.roll(old.partition(".")[0], 1) is None
    assert await house.ring.roll("cvx-unknown", 1) is None


@pytest.mark.filterwarnings("ignore:The HMAC key is 16 bytes long")
async def test_zhipu_key_is_brought_along(client: httpx2.AsyncClient, house: House) -> None:
    whole = "0123456789abcdef0123456789abcdef.SecretSecret1234"
    key_id, _, secret = whole.partition(".")
    assert await house.ring.take_in(whole, "acme", "from before") == key_id

    token = jwt.encode(
        {"api_key": key_id, "exp": int((time.time() + 200) * 1000), "timestamp": int(time.time() * 1000)},
        secret,
        "HS256",
        headers={"sign_type": "SIGN"},
    )
    assert await answers(client, whole) == ("ok", "ok")
    assert await answers(client, token) == ("ok", "ok")
    with pytest.raises(KeyKnown):
        await house.ring.take_in(whole, "globex", "")
    await house.ring.revoke(key_id)
    with pytest.raises(KeyKnown):
        await house.ring.take_in(whole, "acme", "")


@pytest.mark.parametrize(
    "whole", ["", "nodot" * 8, "a.b", "a.b.ccccccccccccccccc", "é.cccccccccccccccccc", "a.cccccc cccccccccccc"]
)
async def test_what_is_no_key_is_not_imported(house: House, whole: str) -> None:
    with pytest.raises(BadKey):
        await house.ring.take_in(whole, "acme", "")


async def test_key_is_found_by_scanners_and_kept_for_a_named_tenant(house: House) -> None:
    assert WRITTEN.fullmatch(await house.ring.create("acme"))
    for tenant in ("", "a:b", "acme\n", "../x"):
        with pytest.raises(BadName):
            await house.ring.create(tenant)


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("198.51.100.7", ["203.0.113.9"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, rubbish, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("", ["203.0.113.9"], ""),
    ],
)
def test_only_trusted_proxies_name_the_caller(peer: str, forwarded: list[str], found: str) -> None:
    from ipaddress import ip_network

    from fastapi import Request

    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    request = Request({"type": "http", "headers": headers, "client": (peer, 1) if peer else None})
    trusted = [ip_network(net) for net in GatewaySettings(trusted_proxies="10.0.0.0/8, ::1").trusted_proxies]

    assert client_address(request, trusted) == found


async def test_a_new_master_key_opens_what_older_ones_sealed_and_takes_it_over(house: House) -> None:
    old, new, other = (bytes([number]) * 32 for number in range(3))
    whole = await KeyRing(house.redis, old).create("acme")
    gone = await KeyRing(house.redis, old).create("acme")
    key_id, _, secret = whole.partition(".")
    ring = KeyRing(house.redis, new, [other, old])
    await ring.revoke(gone.partition(".")[0])
    with pytest.raises(MasterKeyLost):
        await KeyRing(house.redis, new).find(key_id)
    found = await ring.find(key_id)
    assert found is not None
    assert found.secret == secret.encode()

    assert await ring.reseal() == (1, [])
    assert await ring.reseal() == (0, [])

    found = await KeyRing(house.redis, new).find(key_id)
    assert found is not None
    assert found.secret == secret.encode()
    assert await KeyRing(house.redis, new).find(gone.partition(".")[0]) is None
    assert await KeyRing(house.redis, other).reseal() == (0, [key_id])
