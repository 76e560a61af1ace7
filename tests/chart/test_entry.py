"""Ways in: the proxies' limits are a little wider than the gateway's own, which refuses in the contract's words."""

import pytest

from server.body import TURN_SECONDS
from server.images import INTAKE_SECONDS

from .conftest import Helm, ci_values, overlay

PUBLIC = {"publicUrl": "https://a.b"}
INGRESS = PUBLIC | {"ingress": {"enabled": True, "hosts": ["a.b"], "tlsSecret": "tls"}}


@pytest.mark.parametrize(("limit", "shown"), [(7340032, "8m"), (7340033, "9m"), (1, "2m")])
def test_bodies_pass_the_ingress_and_are_judged_by_the_gateway(helm: Helm, limit: int, shown: str) -> None:
    values = overlay(overlay(ci_values("minimal"), INGRESS), {"gateway": {"maxBodyBytes": limit}})
    marks = helm.install(values).one("Ingress")["metadata"]["annotations"]

    assert marks["nginx.ingress.kubernetes.io/proxy-body-size"] == shown


def test_the_ingress_waits_longer_than_the_gateway(helm: Helm) -> None:
    values = overlay(overlay(ci_values("minimal"), INGRESS), {"gateway": {"bodySeconds": 100, "imageFetchSeconds": 20}})
    marks = helm.install(values).one("Ingress")["metadata"]["annotations"]

    assert int(marks["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > 100 + TURN_SECONDS + INTAKE_SECONDS
    assert int(marks["nginx.ingress.kubernetes.io/proxy-send-timeout"]) > 100
    assert marks["nginx.ingress.kubernetes.io/proxy-next-upstream"] == "off"


def test_only_the_api_and_result_links_are_let_in(helm: Helm) -> None:
    spec = helm.install(overlay(ci_values("minimal"), INGRESS)).one("Ingress")["spec"]
    (rule,) = spec["rules"]

    assert [path["path"] for path in rule["http"]["paths"]] == ["/api/paas/v4/", "/files/"]
    assert spec["tls"] == [{"secretName": "tls", "hosts": ["a.b"]}]


def test_a_route_has_the_time_limits_too(helm: Helm) -> None:
    (api, files) = helm.install(ci_values("spot")).one("HTTPRoute")["spec"]["rules"]

    assert api["matches"][0]["path"]["value"] == "/api/paas/v4/"
    assert int(api["timeouts"]["request"].rstrip("s")) > 60 + TURN_SECONDS + INTAKE_SECONDS
    assert files["timeouts"]["request"] == "0s"


def test_metrics_are_not_behind_the_service_that_clients_use(helm: Helm) -> None:
    rendered = helm.install(ci_values("production"))
    service = rendered.one("Service", "-gateway")
    monitor = rendered.one("ServiceMonitor", "-gateway")["spec"]["selector"]["matchLabels"]

    assert [port["name"] for port in service["spec"]["ports"]] == ["http"]
    assert monitor.items() <= rendered.one("Service", "-gateway-metrics")["metadata"]["labels"].items()
    assert not monitor.items() <= service["metadata"]["labels"].items()
