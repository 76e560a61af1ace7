"""The script of the fetch Job against a stand-in hub: what has the operator's checksums is marked, nothing else is."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")

from tests.standins.hub import Hub

from .conftest import CHART, ROOT, Helm, ci_values, overlay

pytestmark = pytest.mark.worker
SCRIPT = CHART / "files" / "fetch_weights.py"
WEIGHTS = {"transformer/model.safetensors": b"t" * 30_000, "vae/model.safetensors": b"v" * 20_000}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    home = tmp_path / "hub" / "org" / "model"
    for name, content in {**WEIGHTS, "model_index.json": b"{}", "README.md": b"a card"}.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    with Hub(tmp_path / "hub") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def item(**sums: str) -> dict:
    known = {name: hashlib.sha256(content).hexdigest() for name, content in WEIGHTS.items()}
    return {"path": "m/t2v", "repo": "org/model", "revision": "main", "sha256": known | sums}


def run(mode: str, wanted: dict, cache: Path, url: str = "http://127.0.0.1:9", timeout_s: int = 60) -> tuple[int, str]:
    config = cache.parent / "weights.json"
    config.write_text(json.dumps({"timeout_s": timeout_s, "items": [wanted]}))
    ours = {"HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "HOME": str(cache.parent), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", str(SCRIPT), mode, str(config), str(cache)]
    done = subprocess.run(command, env=os.environ | ours, capture_output=True, text=True, timeout=90)
    return done.returncode, done.stderr


def test_verified_weights_are_marked_and_not_fetched_again(hub: Hub, cache: Path) -> None:
    first = run("fetch", item(), cache, hub.url)
    waited = run("wait", item(), cache, timeout_s=0)
    hub.asked.clear()
    second = run("fetch", item(), cache, hub.url)

    assert (first[0], waited[0], second[0]) == (0, 0, 0), first[1]
    assert hub.asked == []
    assert (cache / "m/t2v/vae/model.safetensors").read_bytes() == WEIGHTS["vae/model.safetensors"]
    assert not (cache / "m/t2v/README.md").exists()


def test_a_wrong_checksum_is_refused_and_its_file_deleted(hub: Hub, cache: Path) -> None:
    wrong = item(**{"vae/model.safetensors": "0" * 64})

    status, said = run("fetch", wrong, cache, hub.url)

    assert (status, "has SHA-256" in said, "Traceback" in said) == (1, True, False)
    assert not (cache / "m/t2v/vae/model.safetensors").exists()
    assert run("wait", wrong, cache, timeout_s=0)[0] == 1


def test_weights_without_a_checksum_are_not_even_downloaded(hub: Hub, cache: Path) -> None:
    wanted = item()
    del wanted["sha256"]["transformer/model.safetensors"]

    status, said = run("fetch", wanted, cache, hub.url)

    assert (status, "no checksum for transformer/model.safetensors" in said) == (1, True)
    assert not (cache / "m").exists()


def test_a_checksum_without_its_file_is_told(hub: Hub, cache: Path) -> None:
    status, said = run("fetch", item(**{"vae/other.safetensors": "0" * 64}), cache, hub.url)

    assert (status, "vae/other.safetensors is not in the repository" in said) == (1, True)


def test_a_silent_hub_ends_the_job_in_one_line(cache: Path) -> None:
    status, said = run("fetch", item(), cache)

    assert (status, "Traceback" in said) == (1, False)


def test_other_checksums_are_other_weights(hub: Hub, cache: Path) -> None:
    run("fetch", item(), cache, hub.url)

    status, said = run("wait", item(**{"vae/model.safetensors": "0" * 64}), cache, timeout_s=0)

    assert (status, "look at the log of the fetch Job" in said) == (1, True)


def test_the_job_runs_this_script_with_these_items(helm: Helm) -> None:
    rendered = helm.install(ci_values("production"))
    config = rendered.one("ConfigMap", "-weights")["data"]
    (container,) = rendered.one("Job")["spec"]["template"]["spec"]["containers"]
    (before,) = rendered.one("Deployment", "-h100")["spec"]["template"]["spec"]["initContainers"]

    assert config["fetch_weights.py"] == SCRIPT.read_text()
    assert json.loads(config["weights.json"])["items"] == ci_values("production")["weights"]["items"]
    script = "/etc/cogvideox/weights/fetch_weights.py"
    assert container["command"][:4] == ["python", "-P", script, "fetch"]
    assert before["command"][:4] == ["python", "-P", script, "wait"]


def test_other_weights_are_another_job(helm: Helm) -> None:
    values = ci_values("production")
    others = [values["weights"]["items"][0] | {"revision": "other"}]

    before = helm.install(values).one("Job")["metadata"]["name"]
    after = helm.install(overlay(values, {"weights": {"items": others}})).one("Job")["metadata"]["name"]

    assert before != after


@pytest.mark.parametrize("kind", ["pvc", "emptyDir"])
def test_what_fetches_knows_a_proxy_and_the_mirror_s_ca(helm: Helm, kind: str) -> None:
    mount, volume = {"name": "ca", "mountPath": "/ca"}, {"name": "ca", "configMap": {"name": "corp-ca"}}
    variable = {"name": "SSL_CERT_FILE", "value": "/ca/ca.crt"}
    own = {"extraEnv": [variable], "extraVolumes": [volume], "extraVolumeMounts": [mount]}
    rendered = helm.install(overlay(ci_values("production"), {"modelCache": {"type": kind}, "weights": own}))
    found = [
        (container, spec)
        for _, _, spec in rendered.pods()
        for container in [*spec["containers"], *spec.get("initContainers", [])]
        if container["name"] == "fetch-weights"
    ]

    assert rendered.invalid == []
    ((container, spec),) = found
    assert variable in container["env"]
    assert mount in container["volumeMounts"]
    assert volume in spec["volumes"]
