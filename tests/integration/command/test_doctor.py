"""Doctor: green on a sound machine, red for each planted fault, and never a traceback."""

import argparse
import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

pytest.importorskip("torch")

from cogvideox_server import doctor
from cogvideox_server.doctor import Finding, Patient
from gpu_worker.engine.tiny import tiny_model_folder
from gpu_worker.weights.folders import write_manifest
from gpu_worker.weights.hubs import HubFile, Repository

pytestmark = pytest.mark.worker


Make = Callable[..., Patient]


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes patients out of variables; the state is an empty folder of its own."""

    def make(**variables: str) -> Patient:
        for name, value in ({"STATE": str(tmp_path / "state")} | variables).items():
            monkeypatch.setenv(f"COGVIDEOX_{name}", value)
        return Patient(argparse.Namespace(state=None, model=None))

    return make


def failed(findings: list[Finding]) -> list[str]:
    return [finding.name for finding in findings if not finding.is_fine]


def test_a_sound_machine_is_all_green_in_json_too(
    redis_url: str, patient: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    patient(REDIS_URL=redis_url, PORT="0")

    status = doctor.doctor(argparse.Namespace(state=None, model=None, json=True))

    said = json.loads(capsys.readouterr().out)
    assert (status, said["fine"]) == (0, True), said
    names = {"python", "settings", "redis", "clock", "store", "links", "device", "model", "tokenizer", "port", "disk"}
    assert {finding["name"] for finding in said["findings"]} == names


def test_every_failure_says_what_to_do(patient: Make, capsys: pytest.CaptureFixture[str]) -> None:
    patient(REDIS_URL="redis://127.0.0.1:9", PORT="0", MODEL="zai-org/CogVideoX1.5-5B", DEVICE="cuda")

    status = doctor.doctor(argparse.Namespace(state=None, model=None, json=False))

    lines = capsys.readouterr().out.splitlines()
    bad = [index for index, line in enumerate(lines) if line.startswith("FAIL")]
    assert status == 1
    assert {lines[index].split()[1] for index in bad} == {"redis", "device", "model"}
    assert all(lines[index + 1].strip().startswith("-> ") for index in bad)


def test_misspelt_settings_are_told(patient: Make, tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text("link_hours = 3\nlinc_hours = 4\n")
    sick = patient(PROT="8000", CONFIG=str(tmp_path / "server.toml"))

    (finding,) = doctor.settings(sick)

    assert finding.said == "unknown: COGVIDEOX_PROT, linc_hours"
    assert sick.gateway.link_hours == 3


@pytest.mark.parametrize(
    ("name", "wrong", "right"), [("appendonly", "no", "yes"), ("maxmemory-policy", "allkeys-lru", "noeviction")]
)
def test_a_redis_that_may_lose_jobs_is_red(name: str, wrong: str, right: str, redis_url: str, patient: Make) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set(name, wrong)
        try:
            assert failed(list(doctor.redis(patient(REDIS_URL=redis_url)))) == ["redis"]
        finally:
            client.config_set(name, right)


def test_a_wrong_clock_is_red(redis_url: str, patient: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sick, now = patient(REDIS_URL=redis_url), time.time()
    monkeypatch.setattr("cogvideox_server.doctor.time.time", lambda: now + 90)

    assert failed(list(doctor.redis(sick))) == ["clock"]


def test_a_store_that_cannot_be_written_is_red(patient: Make, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "results").write_text("not a folder")

    assert failed(list(doctor.store(patient()))) == ["store"]


def test_a_bucket_that_is_not_there_is_red(patient: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    assert failed(list(doctor.store(patient(STORE="s3", S3_BUCKET="none", S3_ENDPOINT="http://127.0.0.1:9")))) == [
        "store"
    ]


def test_a_taken_port_is_red(patient: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        assert failed(list(doctor.port(patient(PORT=str(taken.getsockname()[1]))))) == ["port"]


def test_a_full_disk_is_red(patient: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=10**9)
    monkeypatch.setattr("cogvideox_server.doctor.shutil.disk_usage", lambda _path: usage)

    assert failed(list(doctor.disk(patient()))) == ["disk", "disk"]


def test_damaged_weights_and_a_tokenizer_without_chinese_are_red(patient: Make, tmp_path: Path) -> None:
    pipeline = tiny_model_folder(tmp_path / "models") / "t2v"
    tokenizer = pipeline / "tokenizer" / "tokenizer.json"
    known = json.loads(tokenizer.read_text())
    vocabulary = known["model"]["vocab"]
    known["model"]["vocab"] = [
        [piece, score]
        for piece, score in vocabulary
        if all(ord(letter) < 128 or letter == "▁" for letter in piece) and not piece.startswith("<0x")
    ]
    known["model"]["byte_fallback"] = False
    tokenizer.write_text(json.dumps(known))
    weights = pipeline / "vae" / "diffusion_pytorch_model.safetensors"
    file = HubFile(str(weights.relative_to(pipeline)), weights.stat().st_size, None)
    write_manifest(pipeline, Repository("x/y", "main", "none", (file,)))
    held = bytearray(weights.read_bytes())
    held[-1] ^= 1
    weights.write_bytes(held)

    findings = list(doctor.engine(patient(MODEL=str(pipeline))))

    assert failed(findings) == ["model", "tokenizer"]
