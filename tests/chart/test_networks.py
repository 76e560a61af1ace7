"""Who may talk to whom: default deny, public addresses for images, and what each process was told to use."""

import ipaddress

import pytest

from server.addresses import is_public

from .conftest import Helm, Rendered, ci_values, overlay

TRIAL = {"valkey": {"enabled": True}, "store": {"type": "folder"}}


def policy(rendered: Rendered, component: str) -> dict:
    return rendered.one("NetworkPolicy", f"-{component}")["spec"]


def ports(rules: list[dict]) -> set[int]:
    return {port["port"] for rule in rules for port in rule.get("ports", [])}


def test_every_pod_of_the_release_is_closed_both_ways(rendered: Rendered) -> None:
    closed = policy(rendered, "default")

    assert closed["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in closed
    assert "egress" not in closed
    for name, metadata, _ in rendered.pods():
        assert closed["podSelector"]["matchLabels"].items() <= metadata["labels"].items(), name


def test_every_pod_has_a_policy_of_its_own(rendered: Rendered) -> None:
    chosen = [found["spec"]["podSelector"]["matchLabels"] for found in rendered.all("NetworkPolicy")]
    for name, metadata, _ in rendered.pods():
        assert sum(labels.items() <= metadata["labels"].items() for labels in chosen) == 2, name


def images_rule(rendered: Rendered) -> dict:
    (rule,) = [rule for rule in policy(rendered, "gateway")["egress"] if ports([rule]) == {80, 443}]
    return rule


SAMPLES = [
    *("0.0.0.0", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.0.1", "127.0.0.1", "168.63.129.16"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450:4001::1"),
    *("::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "2001::1", "64:ff9b::a00:1"),
    *("2002:a00:1::", "::ffff:10.0.0.1", "3fff::1", "2620:4f:8000::1"),
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_wall_around_image_fetches_is_no_wider_than_the_gateway_s_own(helm: Helm, sample: str) -> None:
    address = ipaddress.ip_address(sample)
    blocks = [peer["ipBlock"] for peer in images_rule(helm.install(ci_values("minimal")))["to"]]

    passes = any(
        is_within(address, block["cidr"]) and not any(is_within(address, wall) for wall in block["except"])
        for block in blocks
    )

    assert passes == is_public(address)


def is_within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    found = ipaddress.ip_network(network)
    return address.version == found.version and address in found


def test_exceptions_lie_within_their_block(rendered: Rendered, deployment: str) -> None:
    """The API refuses others."""
    if deployment == "airgapped":
        assert 80 not in ports(policy(rendered, "gateway")["egress"])
        return
    for peer in images_rule(rendered)["to"]:
        block = ipaddress.ip_network(peer["ipBlock"]["cidr"])
        for wall in peer["ipBlock"]["except"]:
            assert ipaddress.ip_network(wall).subnet_of(block), wall  # type: ignore[arg-type]


def test_own_public_networks_are_walled_too(helm: Helm) -> None:
    own = {"networkPolicy": {"imageIntake": {"except": ["8.8.8.0/24", "2606:4700::/32"]}}}
    four, six = images_rule(helm.install(overlay(ci_values("minimal"), own)))["to"]

    assert "8.8.8.0/24" in four["ipBlock"]["except"]
    assert "2606:4700::/32" in six["ipBlock"]["except"]


def test_workers_reach_what_they_were_told_of_and_nothing_else(helm: Helm) -> None:
    rules = policy(helm.install(ci_values("production")), "worker")["egress"]

    assert ports(rules) == {53, 6380, 443, 8000, 8080}
    assert {"ports": [{"protocol": "TCP", "port": 6380}], "to": [{"ipBlock": {"cidr": "10.20.0.0/24"}}]} in rules


def test_workers_reach_a_hub_only_while_they_download(helm: Helm) -> None:
    hub = {"networkPolicy": {"hub": {"ports": [8443]}}, "modelCache": {"type": "emptyDir"}}
    items = ci_values("production")["weights"]["items"]

    def opened(values: dict) -> bool:
        return 8443 in ports(policy(helm.install(overlay(ci_values("minimal"), hub | values)), "worker")["egress"])

    filled = {"weights": {"items": items}, "pools": [{"name": "a"}]}
    assert opened(filled)
    assert not opened(filled | {"modelCache": {"type": "pvc"}})
    assert not opened({"modelCache": {"type": "none"}})
    assert opened({"modelCache": {"type": "none"}, "pools": [{"name": "a", "model": "org/model"}]})


def test_the_fetch_job_reaches_the_hub_alone(helm: Helm) -> None:
    rules = policy(helm.install(ci_values("production")), "weights")["egress"]

    assert ports(rules) == {53, 443}
    assert len(rules) == 2


def test_nobody_calls_a_worker_but_for_its_metrics(rendered: Rendered) -> None:
    assert ports(policy(rendered, "worker")["ingress"]) == {9100}


def test_named_clients_and_the_test_may_call_the_gateway(helm: Helm) -> None:
    rules = policy(helm.install(ci_values("production")), "gateway")["ingress"]
    (calls,) = [rule for rule in rules if ports([rule]) == {8000}]

    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}} in calls["from"]
    (own,) = [peer["podSelector"]["matchLabels"] for peer in calls["from"] if "podSelector" in peer]
    assert own["app.kubernetes.io/component"] == "test"


def test_the_trial_valkey_hears_its_release_and_keda_alone(helm: Helm) -> None:
    spec = policy(helm.install(TRIAL), "valkey")
    (rule,) = spec["ingress"]
    known = [peer["podSelector"]["matchLabels"] for peer in rule["from"] if "podSelector" in peer]

    assert {labels["app.kubernetes.io/component"] for labels in known} == {"gateway", "worker", "test"}
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}} in rule["from"]
    assert "egress" not in spec


def test_policies_can_be_left_to_others(helm: Helm) -> None:
    rendered = helm.install(overlay(ci_values("minimal"), {"networkPolicy": {"enabled": False}}))

    assert rendered.all("NetworkPolicy") == []
    assert "No NetworkPolicies" in rendered.notes


def test_the_operators_api_is_closed_until_someone_is_named(helm: Helm) -> None:
    closed, opened = helm.install(ci_values("minimal")), helm.install(ci_values("production"))

    assert 8001 not in ports(policy(closed, "gateway")["ingress"])
    (rule,) = [rule for rule in policy(opened, "gateway")["ingress"] if ports([rule]) == {8001}]
    assert rule["from"] == ci_values("production")["networkPolicy"]["operators"]
    assert [port["name"] for port in closed.one("Service", "-gateway")["spec"]["ports"]] == ["http"]
    assert [port["name"] for port in closed.one("Service", "-gateway-admin")["spec"]["ports"]] == ["admin"]


@pytest.mark.parametrize("component", ["gateway", "worker"])
def test_a_collector_of_traces_is_reached_only_where_there_is_one(helm: Helm, component: str) -> None:
    told = {"tracing": {"enabled": True, "endpoint": "http://collector:4318"}}

    assert 4318 in ports(policy(helm.install(overlay(ci_values("minimal"), told)), component)["egress"])
    assert 4318 not in ports(policy(helm.install(ci_values("minimal")), component)["egress"])


def test_what_is_open_to_every_address_is_told(helm: Helm) -> None:
    production, airgapped = helm.install(ci_values("production")).notes, helm.install(ci_values("airgapped")).notes

    assert "every address, inner ones too, on their ports: set networkPolicy.store.to to where" in production
    assert "every address" not in airgapped
