"""No tenant sees, changes or even guesses anything of another's: every endpoint, method and pair of tenants."""

from collections.abc import AsyncIterator, Iterator
from itertools import permutations
from pathlib import Path

import httpx2
import pytest
from fastapi.routing import iter_route_contexts

from server.app import create_app
from server.deps import House
from server.settings import GatewaySettings
from video_jobs.job import JobState, Outcome, VideoFile

BODY = {"model": "cogvideox-2", "prompt": "a cat", "size": "720x480", "user_id": "user-1"}
TENANTS = ("acme", "globex", "initech")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
STATES = ("queued", "running", "cancelled", "failed", "succeeded", "deleted")
UNKNOWN = "9" * 25
PASSING = {"date", "content-length", "ratelimit"}


def task_paths() -> Iterator[str]:
    """Every path of the app that names a task, as it is served."""
    for route in iter_route_contexts(create_app(GatewaySettings(state=Path("unused"))).routes):
        if not route.path.startswith(("/admin", "/files")) and "{" in route.path:
            yield route.path


PATHS = sorted(set(task_paths()))


@pytest.fixture
async def clients(house: House) -> AsyncIterator[dict[str, httpx2.AsyncClient]]:
    transport = httpx2.ASGITransport(app=house.app, raise_app_exceptions=False)  # type: ignore[attr-defined]
    opened = {}
    for tenant in TENANTS:
        headers = {"Authorization": await house.ring.create(tenant, "one")}
        opened[tenant] = httpx2.AsyncClient(transport=transport, base_url="http://gateway.test", headers=headers)
    yield opened
    for client in opened.values():
        await client.aclose()


@pytest.fixture
async def tasks(house: House, clients: dict[str, httpx2.AsyncClient], tmp_path: Path) -> dict[str, dict[str, str]]:
    """One task in each state for each tenant."""
    made: dict[str, dict[str, str]] = {tenant: {} for tenant in TENANTS}
    clip = tmp_path / "clip"
    clip.write_bytes(b"frames")
    # The state `queued` comes last, so that the claims before take what they mean.
    for state in sorted(STATES, key=lambda name: name == "queued"):
        for tenant in TENANTS:
            reply = await clients[tenant].post("/api/paas/v4/videos/generations", json=BODY)
            task_id = made[tenant][state] = reply.json()["id"]
            await bring_to(state, house, clients[tenant], task_id, clip)
    return made


async def bring_to(state: str, house: House, client: httpx2.AsyncClient, task_id: str, clip: Path) -> None:
    if state in ("queued", "cancelled"):
        if state == "cancelled":
            await client.delete(f"/api/paas/v4/async-result/{task_id}")
        return
    claim = await house.store.claim("worker", ["tiny"])
    assert claim is not None
    assert claim.job_id == task_id
    if state == "failed":
        await house.store.finish(claim, Outcome(state=JobState.FAILED, error_code="poison"))
    elif state in ("succeeded", "deleted"):
        home = f"videos/{task_id}/1"
        video = VideoFile(key=f"{home}/video.mp4", cover_key=f"{home}/cover.jpg", size_bytes=6, sha256="0")
        for key in (video.key, video.cover_key):
            house.results.put(key, clip, "video/mp4")
        await house.store.finish(claim, Outcome(state=JobState.SUCCEEDED, video=video))
    if state == "deleted":
        await client.delete(f"/api/paas/v4/async-result/{task_id}")


async def told(client: httpx2.AsyncClient, method: str, path: str, task_id: str) -> tuple[int, str, dict[str, str]]:
    """The whole answer, with the id that was asked for taken out."""
    asked = path
    while "{" in asked:
        asked = f"{asked[: asked.index('{')]}{task_id}{asked[asked.index('}') + 1 :]}"
    reply = await client.request(method, asked, json={} if method in ("POST", "PUT", "PATCH") else None)
    headers = {name: value for name, value in reply.headers.items() if name not in PASSING}
    return reply.status_code, reply.text.replace(task_id, "ID"), headers


def test_there_are_paths_that_name_a_task() -> None:
    assert "/api/paas/v4/async-result/{task_id}" in PATHS


async def test_anothers_task_answers_like_one_that_never_was(
    house: House, clients: dict[str, httpx2.AsyncClient], tasks: dict[str, dict[str, str]]
) -> None:
    before = {task_id: await house.store.get(task_id) for own in tasks.values() for task_id in own.values()}
    asked, leaks = 0, []
    for caller, owner in permutations(TENANTS, 2):
        for path in PATHS:
            for method in METHODS:
                unknown = await told(clients[caller], method, path, UNKNOWN)
                for state, task_id in tasks[owner].items():
                    asked += 1
                    if await told(clients[caller], method, path, task_id) != unknown:
                        leaks.append((caller, owner, method, path, state))

    assert leaks == []
    assert asked == 6 * len(PATHS) * len(METHODS) * len(STATES)
    assert {task_id: await house.store.get(task_id) for task_id in before} == before, "nothing was changed either"


async def test_lists_and_cursors_hold_own_tasks_alone(
    clients: dict[str, httpx2.AsyncClient], tasks: dict[str, dict[str, str]]
) -> None:
    path = "/api/paas/v4/videos/generations"
    for caller, owner in permutations(TENANTS, 2):
        shown = {task["id"] for task in (await clients[caller].get(path)).json()["data"]}
        assert shown == {task_id for state, task_id in tasks[caller].items() if state != "deleted"}
        unknown = (await clients[caller].get(f"{path}?after={UNKNOWN}")).text
        for task_id in tasks[owner].values():
            assert (await clients[caller].get(f"{path}?after={task_id}")).text == unknown


async def test_request_ids_of_two_tenants_never_meet(clients: dict[str, httpx2.AsyncClient]) -> None:
    path = "/api/paas/v4/videos/generations"
    ids = [(await clients[tenant].post(path, json=BODY | {"request_id": "same"})).json()["id"] for tenant in TENANTS]
    other = await clients["globex"].post(path, json=BODY | {"request_id": "same", "prompt": "a dog"})

    assert len(set(ids)) == len(TENANTS)
    assert other.json()["error"]["code"] == "1231"


async def test_one_tasks_signature_opens_no_other_file(
    clients: dict[str, httpx2.AsyncClient], tasks: dict[str, dict[str, str]]
) -> None:
    links = {}
    for tenant in TENANTS:
        reply = await clients[tenant].get(f"/api/paas/v4/async-result/{tasks[tenant]['succeeded']}")
        links[tenant] = httpx2.URL(reply.json()["video_result"][0]["url"])
    for caller, owner in permutations(TENANTS, 2):
        assert (await clients[caller].get(str(links[caller]))).status_code == 200
        forged = links[owner].copy_with(query=links[caller].query)
        assert (await clients[caller].get(str(forged))).status_code == 403


async def test_one_end_users_limit_is_not_anothers(house: House, clients: dict[str, httpx2.AsyncClient]) -> None:
    """The same user_id under two tenants is two people."""
    from video_jobs.limits import Limits, Tenant

    for tenant in TENANTS:
        await house.book.put_tenant(tenant, Tenant(limits=Limits(user_queued=1)))
    path = "/api/paas/v4/videos/generations"

    first = [(await clients[tenant].post(path, json=BODY)).status_code for tenant in TENANTS]
    second = [(await clients[tenant].post(path, json=BODY)).status_code for tenant in TENANTS]

    assert (first, second) == ([200] * 3, [429] * 3)
