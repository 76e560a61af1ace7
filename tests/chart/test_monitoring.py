"""Rules and dashboard: files beside the templates, sound for Prometheus, and about metrics that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from prometheus_client import generate_latest

from gpu_worker.health import WorkerHealth
from gpu_worker.metrics import WorkerMetrics
from server.metrics import GatewayMetrics

from .conftest import CHART, Helm, ci_values

RULES, DASHBOARD = CHART / "files" / "rules.yaml", CHART / "files" / "dashboard.json"


def expressions() -> list[str]:
    """Everything that Prometheus is asked, with Grafana's own words replaced."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    asked = [rule["expr"] for group in groups for rule in group["rules"]]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked += [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [re.sub(r"\$\w+", "5m", expression) for expression in asked]


def exported() -> set[str]:
    """The names of every series that the processes have."""
    worker = SimpleNamespace(
        runs={},
        trouble=lambda: None,
        metrics=WorkerMetrics(),
        engine_start_s=0.0,
        is_rendering=False,
        scratch_free=lambda: 0.0,
    )
    pages = [generate_latest(GatewayMetrics().registry), WorkerHealth(worker)._page("/metrics")[1]]  # type: ignore[arg-type]
    families = re.findall(r"^# TYPE (\w+) (\w+)$", b"\n".join(pages).decode(), re.M)
    endings = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
    return {name + ending for name, kind in families for ending in endings[kind]}


def test_every_metric_that_is_asked_for_exists() -> None:
    named = {name for expression in expressions() for name in re.findall(r"\bcogvideox_\w+", expression)}

    assert len(named) >= 5
    assert named <= exported()


def test_what_is_bad_is_seen_by_its_colour() -> None:
    panels = {panel["title"]: panel for panel in json.loads(DASHBOARD.read_text())["panels"]}
    for title in ("Accepted, share without server error", "Attempts without a video", "Dead jobs"):
        steps = panels[title]["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert {"red", "green"} <= {step["color"] for step in steps}
        assert panels[title]["options"]["colorMode"] == "background"


def test_prometheus_takes_the_rules_and_the_panels(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool: rules and panels are not checked without it")
    panels = [{"record": f"panel:{number}", "expr": asked} for number, asked in enumerate(expressions())]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": panels}]}))

    done = subprocess.run(
        ["promtool", "check", "rules", str(RULES), str(tmp_path / "panels.yaml")], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_release_carries_the_files_as_they_are(helm: Helm) -> None:
    rendered = helm.install(ci_values("production"))

    assert rendered.one("PrometheusRule")["spec"] == yaml.safe_load(RULES.read_text())
    assert rendered.one("ConfigMap", "-dashboard")["data"] == {"cogvideox-server.json": DASHBOARD.read_text()}


def test_series_have_the_jobs_that_rules_ask_for(helm: Helm) -> None:
    rendered = helm.install(ci_values("production"))
    jobs = {
        relabeling["replacement"]
        for monitor in rendered.all("ServiceMonitor")
        for relabeling in monitor["spec"]["endpoints"][0]["relabelings"]
        if relabeling["targetLabel"] == "job"
    }

    assert set(re.findall(r'job="([\w-]+)"', " ".join(expressions()))) <= jobs


def test_every_alert_fires_on_what_it_is_for_and_is_silent_on_a_healthy_day() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool: alerts are not tried without it")
    cases = Path(__file__).parent / "rules_test.yaml"

    done = subprocess.run(["promtool", "test", "rules", str(cases)], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    alerts = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    assert alerts == set(re.findall(r'alertname="(\w+)"', cases.read_text()))


def test_every_alert_has_its_runbook() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    sections = re.findall(r"^## (\w+)$", (CHART.parents[1] / "docs" / "runbooks.md").read_text(), re.M)

    assert [rule["annotations"]["runbook"] for rule in rules] == [
        f"docs/runbooks.md#{rule['alert'].lower()}" for rule in rules
    ]
    assert sorted(sections) == sorted(rule["alert"] for rule in rules)
