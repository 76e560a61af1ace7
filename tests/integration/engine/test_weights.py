"""Weights from a hub: pulled by the hubs' own libraries from a stand-in, whole, once, checked, and then rendered."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("huggingface_hub")
pytest.importorskip("modelscope_hub")

from gpu_worker.engine import examine
from gpu_worker.engine.__main__ import check_checksum
from gpu_worker.engine.load import load_model, pick_device
from gpu_worker.engine.process import Child
from gpu_worker.weights.folders import MANIFEST
from gpu_worker.weights.pull import model_folder
from tests.integration.engine.plans import engine_command
from tests.standins.hub import Hub
from video_jobs.catalogue import Catalogue, load_catalogue
from video_jobs.errors import ModelUnavailable

pytestmark = pytest.mark.worker
OWNERS = {"huggingface": "zai-org", "modelscope": "ZhipuAI"}


@pytest.fixture
def hub(models: Path, tmp_path: Path) -> Iterator[Hub]:
    """Both hubs, with the small model's pipelines under the names of CogVideoX 1.5, and files nobody needs."""
    for owner in OWNERS.values():
        for mode, name in (("t2v", "CogVideoX1.5-5B"), ("i2v", "CogVideoX1.5-5B-I2V")):
            home = tmp_path / "hub" / owner / name
            shutil.copytree(models / "tiny-1" / mode, home)
            (home / "README.md").write_text("a card")
            (home / "old.bin").write_bytes(b"x" * 100_000)
    with Hub(tmp_path / "hub") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def run(hub: Hub, models: Path, *args: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    ours = {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", **environment}
    command = [sys.executable, "-P", "-m", "cogvideox_server", "models", *args, "--models", str(models)]
    home = {"HOME": str(models), "HF_HOME": str(models / "hf-home"), "MODELSCOPE_CACHE": str(models / "ms-home")}
    return subprocess.run(command, env=os.environ | home | ours, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("prefix", "label"), [("", "huggingface"), ("modelscope:", "modelscope")])
def test_a_pair_is_pulled_once_only_what_is_needed_and_renders(
    prefix: str, label: str, hub: Hub, tmp_path: Path
) -> None:
    first = run(hub, tmp_path / "m", "pull", prefix + "cogvideox-1.5-5b")
    assert first.returncode == 0, first.stderr
    asked = [path for path, _ in hub.asked]
    hub.asked.clear()
    second = run(hub, tmp_path / "m", "pull", prefix + "cogvideox-1.5-5b")

    folder = Path(first.stdout.strip())
    assert (second.stdout, hub.asked) == (first.stdout, [])
    assert "licence: " in first.stderr
    owner = tmp_path / "m" / label / OWNERS[label]
    assert not list(owner.rglob("*.bin"))
    assert not list(owner.glob("*/README.md"))
    assert (owner / "CogVideoX1.5-5B-I2V" / "vae" / "diffusion_pytorch_model.safetensors").is_symlink()
    assert not [path for path in asked if "I2V" in path and "text_encoder/model.safetensors" in path]
    model = load_model(str(folder), tmp_path / "unused", pick_device("cpu"))
    assert set(model.transformers) == {"t2v", "i2v"}


@pytest.mark.parametrize("name", ["zai-org/CogVideoX1.5-5B", "modelscope:ZhipuAI/CogVideoX1.5-5B"])
def test_a_broken_download_goes_on_and_ends_whole(name: str, hub: Hub, tmp_path: Path) -> None:
    hub.cut_bytes = 50_000
    pulled = run(hub, tmp_path / "m", "pull", name)
    verified = run(hub, tmp_path / "m", "verify")

    assert hub.cut_bytes == 0
    assert (pulled.returncode, verified.returncode) == (0, 0), pulled.stderr
    assert "whole" in verified.stdout


@pytest.mark.parametrize("name", ["zai-org/CogVideoX1.5-5B", "modelscope:ZhipuAI/CogVideoX1.5-5B"])
def test_damage_is_found_named_and_mended_by_another_pull(name: str, hub: Hub, tmp_path: Path) -> None:
    folder = Path(run(hub, tmp_path / "m", "pull", name).stdout.strip())
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    held, times = bytearray(weights.read_bytes()), weights.stat()
    held[-1] ^= 1
    weights.write_bytes(held)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    (folder / "scheduler" / "scheduler_config.json").unlink()

    found = run(hub, tmp_path / "m", "verify")
    again = run(hub, tmp_path / "m", "pull", name)

    assert found.returncode == 1
    assert "vae/diffusion_pytorch_model.safetensors has another checksum" in found.stdout
    assert "scheduler_config.json is missing" in found.stdout
    assert (again.returncode, run(hub, tmp_path / "m", "verify").returncode) == (0, 0)


def test_damaged_list_of_checksums_is_as_good_as_none(hub: Hub, tmp_path: Path) -> None:
    name = "zai-org/CogVideoX1.5-5B"
    folder = Path(run(hub, tmp_path / "m", "pull", name).stdout.strip())
    (folder / MANIFEST).write_text("{")

    found = run(hub, tmp_path / "m", "verify", str(folder))
    again = run(hub, tmp_path / "m", "pull", name)

    assert (found.returncode, again.returncode) == (1, 0)
    assert MANIFEST in found.stderr
    assert "Traceback" not in found.stderr
    assert run(hub, tmp_path / "m", "verify").returncode == 0


def test_offline_what_was_pulled_is_used_and_the_rest_is_told(hub: Hub, tmp_path: Path) -> None:
    name = "zai-org/CogVideoX1.5-5B"
    run(hub, tmp_path / "m", "pull", name)

    known = run(hub, tmp_path / "m", "pull", name, HF_HUB_OFFLINE="1")
    unknown = run(hub, tmp_path / "m", "pull", "zai-org/CogVideoX1.5-5B-I2V", HF_HUB_OFFLINE="1")

    assert known.returncode == 0
    assert (unknown.returncode, "Traceback" in unknown.stderr) == (1, False)


@pytest.mark.parametrize("name", ["zai-org/none", "modelscope:ZhipuAI/none", "none", "../x/y"])
def test_an_unknown_model_is_one_line(name: str, hub: Hub, tmp_path: Path) -> None:
    said = run(hub, tmp_path / "m", "pull", name)

    assert said.returncode == 1
    assert said.stderr.startswith("cogvideox-server models: ")
    assert "Traceback" not in said.stderr


def test_pinned_revisions_are_what_is_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, str | None] = {}

    def note(_hub: object, name: str, _models: Path, revision: str | None, *_: object) -> Path:
        asked[name.rpartition("/")[2]] = revision
        return tmp_path

    monkeypatch.setattr("gpu_worker.weights.pull._pulled", note)
    native = load_catalogue().checkpoints["cogvideox-1.5-5b"]
    pinned = native.model_copy(update={"revisions": {"t2v": "0123abc"}})
    catalogue = Catalogue(models={}, checkpoints={"cogvideox-1.5-5b": pinned})

    model_folder("cogvideox-1.5-5b", tmp_path, lambda _: None, catalogue=catalogue)

    assert asked == {"CogVideoX1.5-5B": "0123abc", "CogVideoX1.5-5B-I2V": None}


def test_weights_other_than_the_catalogue_names_are_refused(models: Path) -> None:
    model, tiny = load_model("tiny", models, pick_device("cpu")), load_catalogue().checkpoints["tiny"]

    check_checksum(model, tiny)
    check_checksum(model, tiny.model_copy(update={"weights_checksum": model.checksum}))
    with pytest.raises(ModelUnavailable, match="catalogue names"):
        check_checksum(model, tiny.model_copy(update={"weights_checksum": "0" * 64}))


def test_loading_writes_no_bars_into_the_log(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model("tiny-random", models, pick_device("cpu"))

    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


HOUSE = """
[checkpoints.house]
repos = { t2v = "acme/House-5b" }
image = false
sizes = ["64x64"]
frames = { 5 = 81 }
fps = 16
text_tokens = 64
layers = 2
hidden = 64
patch_t = 2
tflops = 0.02
presets.speed = { steps = 10, scheduler = "ddim", guidance = 6.0 }
presets.quality = { steps = 50, scheduler = "dpm", guidance = 6.0 }
"""

# The last word counts. Two ranks: the follower must find it too.
HOUSE_ENGINE = ("--model", "house", "--checkpoint", "house", "--ranks", "2")


async def test_an_operators_own_checkpoint_is_known_wherever_a_model_is_named(
    hub: Hub, models: Path, tmp_path: Path
) -> None:
    (own := tmp_path / "own.toml").write_text(HOUSE)
    shutil.copytree(models / "tiny-1" / "t2v", tmp_path / "hub" / "acme" / "House-5b")

    pulled = run(hub, tmp_path / "m", "pull", "house", COGVIDEOX_CATALOGUE=str(own))
    listed = run(hub, tmp_path / "m", "list", COGVIDEOX_CATALOGUE=str(own))

    assert pulled.returncode == 0, pulled.stderr
    assert "pull house" in listed.stdout
    assert "acme/House-5b" in listed.stdout
    found = examine.model("house", tmp_path / "m", load_catalogue(own))
    assert found["problems"] == []
    engine = Child("engine", engine_command(tmp_path / "m", *HOUSE_ENGINE, "--catalogue", str(own)))
    try:
        await engine.start()
    finally:
        await engine.kill()
