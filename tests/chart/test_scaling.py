"""KEDA counts what the program's own Redis keys hold: the route's queued plus running jobs."""

from base64 import b64decode

import pytest
from redis.asyncio import Redis

from video_jobs import keys
from video_jobs.catalogue import load_catalogue
from video_jobs.job import JOB_VERSION, Job, VideoSpec
from video_jobs.store import JobStore

from .conftest import Helm, ci_values, overlay

SPEC = VideoSpec(model="cogvideox-2", prompt="a cat", width=720, height=480, fps=30, duration_s=5, seed=1)
# What KEDA's Redis scaler asks, whatever the type of the key.
KEDA_SCRIPT = """
local kind = redis.call('type', KEYS[1]).ok
local count = {list = 'llen', set = 'scard', zset = 'zcard', hash = 'hlen'}
return count[kind] and redis.call(count[kind], KEYS[1]) or 0
"""


@pytest.fixture
async def queued(redis_client: Redis) -> list[Job]:
    """Three accepted jobs of the route `tiny`."""
    store, plan = JobStore(redis_client), load_catalogue().plan(SPEC, "tiny")
    jobs = [
        Job(
            id=str(10**24 + n),
            request_id=f"r{n}",
            body_hash="same",
            tenant="acme",
            key_id="key",
            spec=SPEC,
            plan=plan,
            route="tiny",
            cost_s=1.0,
        )
        for n in range(3)
    ]
    for job in jobs:
        await store.admit(job.tenant, job.request_id, job.body_hash, job.id)
        await store.accept(job)
    return jobs


def triggers(scaled: dict) -> dict[str, dict]:
    return {each["name"]: each for each in scaled["spec"]["triggers"]}


def test_triggers_name_the_keys_that_the_program_writes(helm: Helm) -> None:
    found = triggers(helm.install(ci_values("spot")).one("ScaledObject", "-spot"))

    assert found["waiting"]["metadata"]["listName"] == keys.waiting(f"{JOB_VERSION}:cogvideox-5b")
    assert found["running"]["metadata"]["listName"] == keys.LEASES


async def test_waiting_and_running_jobs_are_counted(helm: Helm, redis_client: Redis, queued: list[Job]) -> None:
    values = overlay(ci_values("minimal"), {"keda": {"redis": {"address": "redis:6379"}}})
    scaled = helm.install(overlay(values, {"poolDefaults": {"autoscaling": {"enabled": True}}})).one("ScaledObject")
    names = {name: each["metadata"]["listName"] for name, each in triggers(scaled).items()}

    async def counts() -> dict[str, int]:
        return {name: await redis_client.eval(KEDA_SCRIPT, 1, key) for name, key in names.items()}  # type: ignore[misc]

    before = await counts()
    claim = await JobStore(redis_client).claim("w1", [queued[0].route])
    during = await counts()

    assert claim is not None
    assert before == {"waiting": 3, "running": 0}
    assert during == {"waiting": 2, "running": 1}


def test_a_pool_goes_to_zero_and_comes_back_one_worker_at_a_time(helm: Helm) -> None:
    spec = helm.install(ci_values("spot")).one("ScaledObject", "-spot")["spec"]
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]

    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 20)
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]
    assert down["stabilizationWindowSeconds"] >= 300
    assert spec["cooldownPeriod"] >= 300
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"


def test_scaled_deployments_leave_their_count_to_keda(helm: Helm) -> None:
    rendered = helm.install(ci_values("spot"))

    assert "replicas" not in rendered.one("Deployment", "-spot")["spec"]
    assert rendered.one("Deployment", "-reserved")["spec"]["replicas"] == 1


def test_jobs_of_fixed_workers_wake_nobody(helm: Helm) -> None:
    spec = helm.install(ci_values("spot")).one("ScaledObject", "-spot")["spec"]

    assert spec["advanced"]["scalingModifiers"]["formula"] == "max(waiting + running - 1, 0)"


def test_several_routes_are_counted_apart(helm: Helm) -> None:
    rendered = helm.install(ci_values("models"))

    for pool, route in (("large", "cogvideox-1.5-5b"), ("medium", "cogvideox-5b"), ("slice", "cogvideox-2b")):
        found = triggers(rendered.one("ScaledObject", f"-{pool}"))
        assert found["waiting"]["metadata"]["listName"] == keys.waiting(f"{JOB_VERSION}:{route}")
        assert f'pool="{pool}"' in found["running"]["metadata"]["query"]


URLS = {
    "redis://cache:6380/2": {"address": "cache:6380", "enableTLS": "false", "databaseIndex": "2"},
    "rediss://cache": {"address": "cache:6379", "enableTLS": "true", "databaseIndex": "0"},
    "redis://[fd00::1]:6379": {"address": "[fd00::1]:6379", "enableTLS": "false", "databaseIndex": "0"},
}


@pytest.mark.parametrize("url", URLS)
def test_keda_reads_the_address_from_the_url(helm: Helm, url: str) -> None:
    values = {"redis": {"existingSecret": "", "url": url}, "poolDefaults": {"autoscaling": {"enabled": True}}}
    found = triggers(helm.install(overlay(ci_values("minimal"), values)).one("ScaledObject"))

    assert URLS[url].items() <= found["waiting"]["metadata"].items()


def test_the_trial_valkey_needs_no_words_about_it(helm: Helm) -> None:
    scaled = {"autoscaling": {"enabled": True}}
    rendered = helm.install({"valkey": {"enabled": True}, "store": {"type": "folder"}, "poolDefaults": scaled})
    found = triggers(rendered.one("ScaledObject"))["waiting"]

    assert found["metadata"]["address"] == "rel-cogvideox-server-valkey.video.svc:6379"
    assert found["authenticationRef"]["name"] == rendered.one("TriggerAuthentication")["metadata"]["name"]


def test_the_password_that_keda_needs_may_be_a_value(helm: Helm) -> None:
    redis = {"existingSecret": "", "url": "redis://u:geheim@r:6379/0"}
    values = {"redis": redis, "keda": {"redis": {"password": "geheim"}}}
    rendered = helm.install(
        overlay(overlay(ci_values("minimal"), values), {"poolDefaults": {"autoscaling": {"enabled": True}}})
    )
    (said,) = rendered.one("TriggerAuthentication")["spec"]["secretTargetRef"]
    secret = rendered.one("Secret", said["name"])

    assert (said["parameter"], b64decode(secret["data"][said["key"]])) == ("password", b"geheim")
    assert triggers(rendered.one("ScaledObject"))["waiting"]["authenticationRef"]
