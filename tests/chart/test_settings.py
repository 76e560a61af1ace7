"""What the chart tells the program exists, and means what the chart's values say."""

import re
from pathlib import Path

import pytest
import yaml

from gpu_worker.settings import WorkerSettings
from server.settings import GatewaySettings
from video_jobs.declared import parse

from .conftest import CHART, ROOT, Helm, Rendered, ci_values, overlay

TEMPLATES = CHART / "templates"
FOLDER = {"store": {"type": "folder"}}
REWRITER = {"rewriter": {"url": "http://r/v1", "model": "m", "apiKey": {"existingSecret": "r"}}}


def documented() -> set[str]:
    """With each secret's `_FILE`, which the page tells of in words."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    named = set(re.findall(r"`(COGVIDEOX_[A-Z0-9_]+)`", page))
    return named | {f"{name}_FILE" for name in named}


def told(rendered: Rendered, suffix: str) -> dict[str, str]:
    """A deployment's plain variables."""
    spec = rendered.one("Deployment", suffix)["spec"]["template"]["spec"]
    shared = rendered.one("ConfigMap", "-settings")["data"]
    return shared | {each["name"]: each["value"] for each in spec["containers"][0]["env"] if "value" in each}


def ours(variables: dict[str, str]) -> set[str]:
    return {name for name in variables if name.startswith("COGVIDEOX_")}


def test_every_setting_of_the_chart_is_documented(rendered: Rendered) -> None:
    for name, _, spec in rendered.pods():
        for container in spec["containers"]:
            named = {each["name"] for each in container.get("env", []) if each["name"].startswith("COGVIDEOX_")}
            assert named <= documented(), name
    assert ours(rendered.one("ConfigMap", "-settings")["data"]) <= documented()


def test_settings_that_no_file_of_values_uses_are_documented_too() -> None:
    names = set()
    for path in TEMPLATES.rglob("*.tpl"):
        names |= set(re.findall(r"^(?:- name: )?(COGVIDEOX_[A-Z0-9_]+[A-Z0-9]): ", path.read_text(), re.M))

    assert len(names) > 10
    assert names <= documented()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """What the pods find mounted."""
    (tmp_path / "secret").write_text("redis://r:6379/0")
    return tmp_path / "secret"


def start(rendered: Rendered, suffix: str, monkeypatch: pytest.MonkeyPatch, secret: Path) -> None:
    for name, value in told(rendered, suffix).items():
        is_read = name in ("COGVIDEOX_REDIS_URL_FILE", "COGVIDEOX_REWRITER_KEY_FILE", "COGVIDEOX_MODERATION_KEY_FILE")
        monkeypatch.setenv(name, str(secret) if is_read else value)


def test_gateways_understand_every_value(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch, deployment: str, secret: Path
) -> None:
    start(rendered, "-gateway", monkeypatch, secret)

    settings = GatewaySettings()

    values = overlay(yaml.safe_load((CHART / "values.yaml").read_text()), ci_values(deployment))
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    assert settings.public_url == values["publicUrl"]
    assert settings.checkpoint == values["gateway"]["checkpoint"]
    assert settings.max_body_bytes == values["gateway"]["maxBodyBytes"]
    assert settings.redis_url.get_secret_value() == "redis://r:6379/0"
    assert settings.s3_bucket == values["store"]["s3"]["bucket"]


def test_the_helm_test_understands_public_links(helm: Helm, monkeypatch: pytest.MonkeyPatch, secret: Path) -> None:
    """Its keys are made by a command that reads the gateway's settings."""
    public = {"links": {"mode": "public", "base": "https://cdn.example"}, "audit": {"bucket": "audit"}}
    rendered = helm.install(overlay(ci_values("minimal"), public))
    pod = rendered.one("Pod", "-test")["spec"]["containers"][0]
    told_pod = rendered.one("ConfigMap", "-settings")["data"] | {each["name"]: each["value"] for each in pod["env"]}
    for name, value in (told_pod | {"COGVIDEOX_REDIS_URL_FILE": str(secret)}).items():
        monkeypatch.setenv(name, value)

    settings = GatewaySettings()

    assert (settings.links, settings.audit_s3_bucket) == ("public", "audit")
    assert str(settings.master_key) == "/run/secrets/cogvideox/master.key"


def test_workers_understand_every_value(helm: Helm, monkeypatch: pytest.MonkeyPatch, secret: Path) -> None:
    pool = {"pools": [{"name": "a", "memory": "24", "graceSeconds": 90, "gpu": {"count": 2}}]}
    rendered = helm.install(overlay(ci_values("minimal"), FOLDER | REWRITER | pool | {"leaseSeconds": 7.5}))
    start(rendered, "-a", monkeypatch, secret)

    settings = WorkerSettings()

    assert (settings.lease_seconds, settings.grace_seconds, settings.memory) == (7.5, 90, "24")
    assert settings.gpus_per_job == 2
    assert (settings.store, str(settings.scratch_folder)) == ("folder", "/scratch")
    assert (settings.rewriter_url, settings.rewriter_model) == ("http://r/v1", "m")


def test_the_chart_s_defaults_are_the_program_s(helm: Helm) -> None:
    """Where they differ, it is on purpose and written here."""
    on_purpose = {"HOST", "ADMIN_PORT", "METRICS_PORT", "STORE", "STATE", "SCRATCH", "WORKER_PORT"}
    rendered = helm.install(ci_values("minimal"))
    for suffix, kind in (("-gateway", GatewaySettings), ("-tiny", WorkerSettings)):
        for name, value in told(rendered, suffix).items():
            field = kind.model_fields.get(name.removeprefix("COGVIDEOX_").lower())
            if field is None or name.removeprefix("COGVIDEOX_") in on_purpose or name.endswith("_FILE"):
                continue
            default = field.get_default(call_default_factory=True)
            same = str(default).lower() == value.lower() or (value == "" and not default)
            assert same or numbers(default, value) or name.startswith("COGVIDEOX_S3_"), name


def numbers(default: object, value: str) -> bool:
    return isinstance(default, int | float) and not isinstance(default, bool) and float(default) == float(value)


def test_tenants_reach_running_gateways_as_a_folder(helm: Helm) -> None:
    """A single file of a ConfigMap would never change in a pod."""
    rendered = helm.install(ci_values("production"))
    spec = rendered.one("Deployment", "-gateway")["spec"]["template"]["spec"]
    (mount,) = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "tenants"]
    declared = parse(rendered.one("ConfigMap", "-tenants")["data"]["tenants.yaml"])

    assert told(rendered, "-gateway")["COGVIDEOX_TENANTS_FILE"] == f"{mount['mountPath']}/tenants.yaml"
    assert "subPath" not in mount
    assert declared.tenants["studio"].plan in declared.plans
    assert "COGVIDEOX_TENANTS_FILE" not in told(helm.install(ci_values("minimal")), "-gateway")


def test_traces_go_where_the_chart_says(helm: Helm) -> None:
    values = {"tracing": {"enabled": True, "endpoint": "http://collector.monitoring:4318"}}
    rendered = helm.install(overlay(ci_values("minimal"), values))

    for pod in ("-gateway", "-tiny"):
        assert told(rendered, pod)["COGVIDEOX_TRACING"] == "true"
        assert told(rendered, pod)["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector.monitoring:4318"
    assert "COGVIDEOX_TRACING" not in told(helm.install(ci_values("minimal")), "-gateway")
