"""Every file of values installs, upgrades, and is made of objects that the API would take."""

import json
import subprocess
from pathlib import Path

from .conftest import CI, Helm, Rendered, ci_values, overlay

CUSTOM_KINDS = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PrometheusRule", "HTTPRoute"}


def test_all_five_deployments_have_a_file() -> None:
    assert [path.name.removesuffix("-values.yaml") for path in CI] == [
        "airgapped",
        "minimal",
        "models",
        "production",
        "spot",
    ]


def test_every_object_is_valid(helm: Helm, deployment: str, kubernetes: str) -> None:
    assert helm.install(ci_values(deployment), kubernetes=kubernetes).invalid == []


def test_every_custom_resource_is_valid(helm: Helm, deployment: str, kubernetes: str, validators: Path) -> None:
    rendered = helm.install(ci_values(deployment), kubernetes=kubernetes)

    said = refused_by_validators(rendered.objects, validators)

    assert said["problems"] == []
    assert said["seen"] == sum(found["kind"] in CUSTOM_KINDS for found in rendered.objects)


def test_the_validators_refuse_what_is_wrong(helm: Helm, validators: Path) -> None:
    scaled = json.loads(json.dumps(helm.install(ci_values("spot")).one("ScaledObject")))
    scaled["spec"]["minReplicaCount"] = "none"

    assert "minReplicaCount must be integer" in refused_by_validators([scaled], validators)["problems"][0]


def test_the_least_deployment_upgrades_to_each_and_back(helm: Helm, deployment: str, kubernetes: str) -> None:
    least, values = ci_values("minimal"), ci_values(deployment)

    _, there, back = helm.upgrade(least, values, least, kubernetes=kubernetes)

    assert there.invalid == []
    assert names(there.objects) == names(helm.install(values, kubernetes=kubernetes).objects)
    assert names(back.objects) == names(helm.install(least, kubernetes=kubernetes).objects)


def test_nothing_that_the_api_holds_fixed_changes_with_labels_and_versions(helm: Helm) -> None:
    """The fake API refuses such a change, as the real one does."""
    values = overlay(ci_values("production"), {"valkey": {"enabled": True}, "redis": {"existingSecret": ""}})
    later = {"commonLabels": {"team": "video"}}

    before, after = helm.upgrade(values, overlay(values, later))

    assert before.one("Job")["metadata"]["name"] != after.one("Job")["metadata"]["name"]


def test_the_fake_api_refuses_what_is_fixed(helm: Helm) -> None:
    trial = {"valkey": {"enabled": True}, "store": {"type": "folder"}}

    said = helm.refusal(trial, overlay(trial, {"store": {"folder": {"accessMode": "ReadWriteOncePod"}}}))

    assert "spec.accessModes: field is immutable" in said


def test_selectors_never_change_in_an_upgrade(helm: Helm) -> None:
    def selectors(rendered: Rendered) -> dict[str, dict]:
        return {found["metadata"]["name"]: found["spec"]["selector"] for found in rendered.all("Deployment")}

    before = helm.install(ci_values("minimal"))
    after = helm.install(overlay(ci_values("minimal"), {"commonLabels": {"team": "video"}, "logLevel": "DEBUG"}))

    assert selectors(before) == selectors(after)


def test_names_of_objects_do_not_meet(rendered: Rendered) -> None:
    seen = [(found["kind"], found["metadata"]["name"]) for found in rendered.objects]

    assert len(seen) == len(set(seen))
    assert max(len(name) for _, name in seen) <= 63


def test_notes_tell_the_next_three_commands(rendered: Rendered) -> None:
    for command in ("rollout status deployment/", "keys create", "helm -n video test rel"):
        assert command in rendered.notes


def test_notes_warn_of_a_trial(helm: Helm) -> None:
    notes = helm.install({"valkey": {"enabled": True}, "store": {"type": "folder"}}).notes

    for warning in ("result links work only through", "Valkey is for trials", "built-in tiny model"):
        assert warning in notes


def test_a_trial_keeps_its_keys_over_an_upgrade(helm: Helm) -> None:
    trial = {"valkey": {"enabled": True}, "store": {"type": "folder"}}

    def secrets(rendered: Rendered) -> dict[str, dict]:
        return {found["metadata"]["name"]: found["data"] for found in rendered.all("Secret")}

    first, second = helm.upgrade(trial, trial)

    assert secrets(first) == secrets(second)
    assert set(secrets(second)["rel-cogvideox-server-secrets"]) == {"master.key", "link.key", "audit.key"}
    assert set(secrets(second)["rel-cogvideox-server-valkey"]) == {"password", "redis-url"}


def test_pods_restart_when_what_they_read_at_start_changes(helm: Helm) -> None:
    def marks(values: dict) -> set[str]:
        rendered = helm.install(overlay(ci_values("minimal"), values))
        return {
            json.dumps(found["spec"]["template"]["metadata"]["annotations"]) for found in rendered.all("Deployment")
        }

    before = marks({})

    assert not before & marks({"logLevel": "DEBUG"})
    assert not before & marks({"catalogue": "[models]"})
    assert not before & marks({"redis": {"existingSecret": "another"}})


def names(objects: list[dict]) -> set[tuple[str, str]]:
    return {(found["kind"], found["metadata"]["name"]) for found in objects}


def refused_by_validators(objects: list[dict], validators: Path) -> dict:
    script = Path(__file__).with_name("validate.mjs")
    done = subprocess.run(
        ["node", str(script), str(validators)], input=json.dumps(objects), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)
