"""What every pod promises: Pod Security "restricted", a read-only root, honest probes, time to drain."""

import pytest

from .conftest import Helm, Rendered, ci_values, overlay

RESTRICTED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"}
RESTRICTED_VOLUMES |= {"secret", "image"}


def containers(spec: dict) -> list[dict]:
    return [*spec["containers"], *spec.get("initContainers", [])]


def violations(spec: dict) -> list[str]:
    """What Pod Security "restricted" would refuse, and a root that can be written."""
    found = [f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    security = spec["securityContext"]
    found += [] if security.get("runAsNonRoot") and security.get("runAsUser") else ["may run as root"]
    found += [] if security.get("seccompProfile") == {"type": "RuntimeDefault"} else ["no seccomp profile"]
    for volume in spec.get("volumes", []):
        found += [f"volume {volume['name']}"] if not RESTRICTED_VOLUMES & volume.keys() else []
    for container in containers(spec):
        own = container["securityContext"]
        found += [] if own.get("allowPrivilegeEscalation") is False else [f"{container['name']} may escalate"]
        found += [] if own.get("capabilities") == {"drop": ["ALL"]} else [f"{container['name']} has capabilities"]
        found += [] if own.get("readOnlyRootFilesystem") else [f"{container['name']} writes its root"]
        found += [f"{container['name']} is privileged"] if own.get("privileged") else []
        found += ["host port"] if any("hostPort" in port for port in container.get("ports", [])) else []
    return found


def test_pods_are_restricted_and_their_root_is_read_only(rendered: Rendered, deployment: str) -> None:
    found = {name: violations(spec) for name, _, spec in rendered.pods()}
    allowed = {"models": ["volume models"]} if deployment == "models" else {}

    assert len(found) >= 3
    for name, problems in found.items():
        assert [each for each in problems if each not in allowed.get(deployment, [])] == [], name


def test_the_check_sees_a_pod_that_is_not_restricted(helm: Helm) -> None:
    spec = helm.install(ci_values("minimal")).one("Deployment", "-gateway")["spec"]["template"]["spec"]
    loose = spec | {"hostNetwork": True, "volumes": [{"name": "host", "hostPath": {"path": "/"}}]}

    assert violations(loose) == ["hostNetwork is set", "volume host"]


def test_no_pod_holds_a_token_of_the_api(rendered: Rendered) -> None:
    for name, _, spec in rendered.pods():
        assert spec["automountServiceAccountToken"] is False, name
    for account in rendered.all("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_what_is_written_lies_on_a_volume_with_a_limit(rendered: Rendered) -> None:
    for name, _, spec in rendered.pods():
        for volume in spec.get("volumes", []):
            if "emptyDir" in volume:
                assert volume["emptyDir"].get("sizeLimit"), f"{name}: {volume['name']}"


def test_every_container_says_what_it_needs(rendered: Rendered) -> None:
    for name, _, spec in rendered.pods():
        for container in containers(spec):
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


def test_secrets_of_ours_come_as_files(rendered: Rendered) -> None:
    for name, _, spec in rendered.pods():
        for container in containers(spec):
            told = {each["name"] for each in container.get("env", []) if "valueFrom" in each}
            assert told <= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}, name


def test_workers_never_see_the_keys_of_the_gateway(rendered: Rendered) -> None:
    for deployment in rendered.all("Deployment"):
        if deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "worker":
            assert "master.key" not in str(deployment)
            assert "link.key" not in str(deployment)
            assert "audit.key" not in str(deployment)


def test_liveness_asks_only_whether_the_loop_turns(rendered: Rendered) -> None:
    for deployment in rendered.all("Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("seconds", [10, 905, 1800])
def test_startup_waits_as_long_as_a_model_may_load(helm: Helm, seconds: int) -> None:
    values = overlay(ci_values("minimal"), {"poolDefaults": {"loadSeconds": seconds}})
    deployment = helm.install(values).one("Deployment", "-tiny")
    probe = deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]

    assert seconds <= probe["periodSeconds"] * probe["failureThreshold"] < seconds + 10
    assert deployment["spec"]["progressDeadlineSeconds"] > seconds


def test_workers_have_the_grace_they_were_told_of(rendered: Rendered) -> None:
    for deployment in rendered.all("Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        env = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
        if grace := env.get("COGVIDEOX_GRACE_SECONDS"):
            assert spec["terminationGracePeriodSeconds"] >= float(grace) + 10


def test_gateways_serve_on_while_they_are_forgotten(rendered: Rendered) -> None:
    spec = rendered.one("Deployment", "-gateway")["spec"]["template"]["spec"]
    (_, pause) = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]

    assert spec["terminationGracePeriodSeconds"] >= int(pause) + 10


def test_only_spot_workers_may_be_disturbed(helm: Helm) -> None:
    rendered = helm.install(ci_values("spot"))

    def marks(pool: str) -> set[str]:
        return rendered.one("Deployment", f"-{pool}")["spec"]["template"]["metadata"]["annotations"].keys()

    assert {"karpenter.sh/do-not-disrupt", "cluster-autoscaler.kubernetes.io/safe-to-evict"} <= marks("reserved")
    assert "karpenter.sh/do-not-disrupt" not in marks("spot")


def test_gpus_are_asked_for_by_their_own_name(helm: Helm) -> None:
    rendered = helm.install(ci_values("models"))

    def pod(pool: str) -> dict:
        return rendered.one("Deployment", f"-{pool}")["spec"]["template"]["spec"]

    assert pod("large")["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod("slice")["containers"][0]["resources"]["limits"]["nvidia.com/mig-3g.40gb"] == "1"
    assert "nvidia.com/gpu" not in pod("slice")["containers"][0]["resources"]["limits"]
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod("slice")["tolerations"]


def test_an_image_of_weights_is_mounted_where_kubernetes_can(helm: Helm) -> None:
    image = "models.example.com/cogvideox@sha256:" + "5" * 64
    values = overlay(ci_values("airgapped"), {"modelCache": {"type": "image", "image": image}})
    rendered = helm.install(values, kubernetes="1.37")
    spec = rendered.one("Deployment", "-gpu")["spec"]["template"]["spec"]

    assert {"name": "models", "image": {"reference": image, "pullPolicy": "IfNotPresent"}} in spec["volumes"]
    assert rendered.invalid == []
