"""Values that could not work are refused: by the schema, or by a sentence that names the cure."""

import pytest

from .conftest import Helm, ci_values, overlay

GPU = {"name": "gpu", "model": "/models/x"}

MISSPELT = {
    "an unknown value": ({"gatway": {}}, "additional properties 'gatway' not allowed"),
    "an unknown value of a pool": ({"pools": [{"name": "a", "gpus": 1}]}, "'gpus' not allowed"),
    "a pool without a name": ({"pools": [{"checkpoint": "tiny"}]}, "missing property 'name'"),
    "a word for a number": ({"gateway": {"replicas": "two"}}, "want integer"),
    "a store nobody knows": ({"store": {"type": "nfs"}}, "value must be one of 's3', 'folder'"),
    "a cache nobody knows": ({"modelCache": {"type": "nfs"}}, "value must be one of 'none'"),
    "a name Kubernetes refuses": ({"pools": [{"name": "GPU_1"}]}, "does not match pattern"),
    "a short digest": ({"image": {"gateway": {"digest": "sha256:12"}}}, "does not match pattern"),
    "a number in the environment": (
        {"gateway": {"extraEnv": [{"name": "A", "value": 1}]}},
        "got number, want string",
    ),
    "a port that is taken": ({"gateway": {"adminPort": 8000}}, "gateway/adminPort"),
    "weights without a checksum": (
        {"weights": {"items": [{"path": "a", "repo": "o/r", "revision": "main", "sha256": {}}]}},
        "minProperties",
    ),
    "a path out of the cache": (
        {"weights": {"items": [{"path": "../a", "repo": "o/r", "revision": "1", "sha256": {"a": "0" * 64}}]}},
        "weights/items/0/path",
    ),
}

SENSELESS = {
    "no Redis": ({"redis": {"existingSecret": ""}}, "set redis.existingSecret"),
    "two Redis": ({"valkey": {"enabled": True}}, "set only one of redis.url"),
    "no master key": ({"keys": {"master": {"existingSecret": ""}}}, "set keys.master.existingSecret"),
    "no audit key": ({"keys": {"audit": {"existingSecret": ""}}}, "set keys.audit.existingSecret"),
    "an audit that anyone may read": (
        {"links": {"mode": "public", "base": "https://cdn.example"}},
        "set audit.bucket",
    ),
    "a short key": ({"keys": {"link": {"existingSecret": "", "value": "c2hvcnQ="}}}, "openssl rand -base64 32"),
    "no bucket": ({"store": {"s3": {"bucket": ""}}}, "set store.s3.bucket"),
    "half a pair of keys": ({"store": {"s3": {"credentials": {"accessKeyId": "a"}}}}, "secretAccessKey"),
    "gateways that share a disk": (
        {"store": {"type": "folder", "folder": {"accessMode": "ReadWriteOnce"}}},
        "ReadWriteMany",
    ),
    "public links without a base": ({"links": {"mode": "public"}}, "set links.base"),
    "presigned links without a bucket": (
        {"store": {"type": "folder"}, "links": {"mode": "presigned"}},
        "links.mode=auto",
    ),
    "a KMS key without KMS": ({"store": {"s3": {"sseKeyId": "k"}}}, "store.s3.sse=aws:kms"),
    "links to the own machine": ({"ingress": {"enabled": True, "hosts": ["a.b"]}}, "set publicUrl"),
    "operators let in with everybody": (
        {
            "publicUrl": "https://a.b",
            "ingress": {"enabled": True, "hosts": ["a.b"]},
            "gateway": {"prefix": "", "adminPort": 0},
        },
        "set gateway.adminPort",
    ),
    "tenants that are not YAML": ({"tenants": "plans: {"}, "tenants is not YAML"),
    "an ingress without a host": ({"publicUrl": "https://a.b", "ingress": {"enabled": True}}, "set ingress.hosts"),
    "a route without a gateway": ({"publicUrl": "https://a.b", "httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
    "no time to drain": ({"gateway": {"terminationGracePeriodSeconds": 10}}, "at least 17"),
    "traces for nobody": ({"tracing": {"enabled": True}}, "set tracing.endpoint"),
    "two rewriters": ({"rewriter": {"url": "http://r/v1", "localModel": "/models/r"}}, "set only one of rewriter.url"),
    "pools of one name": ({"pools": [{"name": "a"}, {"name": "a"}]}, "give each its own name"),
    "a pool with the gateway's name": ({"pools": [{"name": "gateway"}]}, "cannot be called gateway"),
    "cuda without a GPU": ({"pools": [{"name": "a", "device": "cuda"}]}, "gpu.count=1"),
    "weights that are mounted nowhere": ({"pools": [GPU]}, "set modelCache.type"),
    "nobody to render": ({"gateway": {"checkpoint": "cogvideox-2b"}}, "Set gateway.checkpoint"),
    "a download without a net": (
        {"offline": True, "pools": [{"name": "a", "model": "o/r"}]},
        "below modelCache.mountPath",
    ),
    "a claim without a name": ({"modelCache": {"type": "existingClaim"}}, "set modelCache.existingClaim"),
    "a host path without a path": ({"modelCache": {"type": "hostPath"}}, "set modelCache.hostPath"),
    "an image without a digest": ({"modelCache": {"type": "image", "image": "a:1"}}, "@sha256:"),
    "a cache that nothing fills": ({"modelCache": {"type": "pvc"}}, "set weights.items"),
    "fewest above most": (
        {"poolDefaults": {"autoscaling": {"enabled": True, "minReplicas": 9}}},
        "minReplicas is above maxReplicas",
    ),
    "a pool that only loads": (
        {"poolDefaults": {"autoscaling": {"enabled": True, "cooldownPeriod": 60}}},
        "at least a third of loadSeconds",
    ),
    "routes that cannot be told apart": (
        {
            "pools": [{"name": "a"}, {"name": "b", "checkpoint": "cogvideox-2b"}],
            "poolDefaults": {"autoscaling": {"enabled": True}},
        },
        "set keda.prometheus.serverAddress",
    ),
    "a queue that KEDA cannot see": ({"poolDefaults": {"autoscaling": {"enabled": True}}}, "set keda.redis.address"),
    "a password that KEDA cannot see": (
        {
            "redis": {"existingSecret": "", "url": "redis://u:p@r:6379/0"},
            "poolDefaults": {"autoscaling": {"enabled": True}},
        },
        "set keda.redis.passwordSecret",
    ),
    "sentinels that KEDA cannot see": (
        {
            "redis": {"existingSecret": "", "url": "sentinel://r:26379/main/0"},
            "poolDefaults": {"autoscaling": {"enabled": True}},
        },
        "keda.redis.sentinelMaster",
    ),
}


@pytest.mark.parametrize("case", MISSPELT)
def test_the_schema_refuses(helm: Helm, case: str) -> None:
    values, words = MISSPELT[case]

    assert words in helm.refusal(overlay(ci_values("minimal"), values))


@pytest.mark.parametrize("case", SENSELESS)
def test_a_sentence_names_the_cure(helm: Helm, case: str) -> None:
    values, words = SENSELESS[case]

    assert words in helm.refusal(overlay(ci_values("minimal"), values))


def test_all_that_is_wrong_is_told_at_once(helm: Helm) -> None:
    said = helm.refusal({})

    for cure in ("redis.existingSecret", "keys.master.existingSecret", "keys.link.existingSecret", "store.s3.bucket"):
        assert cure in said


def test_image_volumes_need_a_kubernetes_that_has_them(helm: Helm) -> None:
    cache = {"type": "image", "image": "a@sha256:" + "0" * 64}

    said = helm.refusal(overlay(ci_values("airgapped"), {"modelCache": cache}), kubernetes="1.28")

    assert "need Kubernetes 1.33 or newer, this is v1.28.0: set modelCache.type to pvc" in said
