"""compose.yaml and the systemd units: documented settings, files that exist, few rights, time to drain."""

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict] = COMPOSE["services"]
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def documented() -> set[str]:
    page = (ROOT / "docs" / "configuration.md").read_text()
    return set(re.findall(r"`(COGVIDEOX_[A-Z0-9_]+)`", page))


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_every_setting_is_documented() -> None:
    named = {name for service in SERVICES.values() for name in service.get("environment", {})}
    for unit in UNITS:
        named |= set(re.findall(r"^Environment=(\w+)=", unit.read_text(), re.M))

    assert {name for name in named if name.startswith("COGVIDEOX_")} <= documented()


@pytest.mark.parametrize("name", SERVICES)
def test_containers_have_no_more_rights_than_they_need(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert not service.get("cap_add") or name == "store"
    assert re.search(r":v?\d", service["image"]), "an image without a version"


def test_only_the_proxy_and_the_operator_s_pages_are_published() -> None:
    published = {name: port for name, service in SERVICES.items() for port in service.get("ports", [])}

    assert published.keys() == {"proxy", "prometheus", "grafana"}
    assert all("127.0.0.1:" in port for port in published.values())


def test_redis_store_and_workers_have_no_way_out() -> None:
    assert COMPOSE["networks"]["inner"] == {"internal": True}
    for name in ("valkey", "store", "bucket", "worker", "worker-gpu"):
        assert SERVICES[name]["networks"] == ["inner"], name


def test_every_file_that_is_mounted_or_built_from_exists() -> None:
    for service in SERVICES.values():
        mounted = [volume.partition(":")[0] for volume in service.get("volumes", [])]
        for path in [path for path in mounted if path.startswith((".", "/"))]:
            assert (DEPLOY / path).is_file(), path
        if build := service.get("build"):
            assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_every_variable_stands_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    shown = set(re.findall(r"^#? ?(\w+)=", (DEPLOY / "example.env").read_text(), re.M))

    assert asked - {"LOG_LEVEL"} <= shown
    assert "${S3_SECRET_KEY:?" in (DEPLOY / "compose.yaml").read_text()


def test_redis_keeps_what_it_is_told() -> None:
    said = " ".join(SERVICES["valkey"]["command"])

    for words in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert words in said


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_workers_have_the_grace_they_were_told_of(name: str) -> None:
    service = SERVICES[name]

    assert seconds(service["stop_grace_period"]) >= int(service["environment"]["COGVIDEOX_GRACE_SECONDS"]) + 10


def test_prometheus_takes_its_configuration() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool: deploy/prometheus.yaml is not checked without it")
    check = ["promtool", "check", "config", "--syntax-only", str(DEPLOY / "prometheus.yaml")]

    done = subprocess.run(check, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_jobs_have_the_names_that_rules_ask_for() -> None:
    named = {job["job_name"] for job in yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]}
    rules = (ROOT / "helm" / "cogvideox-server" / "files" / "rules.yaml").read_text()

    assert set(re.findall(r'job="([\w-]+)"', rules)) <= named


def read_unit(path: Path) -> ConfigParser:
    unit = ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    return unit


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_give_time_to_drain_and_signal_the_parent_alone(path: Path) -> None:
    service = read_unit(path)["Service"]
    told = re.findall(r"COGVIDEOX_GRACE_SECONDS=(\d+)", path.read_text())

    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) >= int(told[0] if told else 10) + 10
    assert service["Restart"] == "always"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_are_sound_and_closed(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze: units are not checked without it")
    # Verified with a command that exists here.
    (tmp_path / path.name).write_text(path.read_text().replace("/opt/cogvideox/bin/cogvideox-server", "/bin/true"))

    sound = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / path.name)], capture_output=True, text=True
    )
    security = ["systemd-analyze", "security", "--offline=true", "--threshold=40", "--no-pager"]
    closed = subprocess.run([*security, str(tmp_path / path.name)], capture_output=True, text=True)

    ours = [line for line in sound.stderr.splitlines() if path.stem.rstrip("@") in line]
    assert ours == []
    assert closed.returncode == 0, closed.stdout[-500:] + closed.stderr
