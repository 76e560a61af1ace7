"""A Kubernetes API in memory: enough for a real `helm install`, `upgrade` and `uninstall`."""

import json
import re
import threading
import uuid
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

RESOURCES = {
    "v1": {
        "secrets": "Secret",
        "configmaps": "ConfigMap",
        "services": "Service",
        "pods": "Pod",
        "serviceaccounts": "ServiceAccount",
        "persistentvolumeclaims": "PersistentVolumeClaim",
    },
    "apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet"},
    "batch/v1": {"jobs": "Job"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy", "ingresses": "Ingress"},
    "scheduling.k8s.io/v1": {"priorityclasses": "PriorityClass"},
    "keda.sh/v1alpha1": {"scaledobjects": "ScaledObject", "triggerauthentications": "TriggerAuthentication"},
    "monitoring.coreos.com/v1": {"servicemonitors": "ServiceMonitor", "prometheusrules": "PrometheusRule"},
    "gateway.networking.k8s.io/v1": {"httproutes": "HTTPRoute"},
}
CLUSTER_WIDE = {"priorityclasses"}
# What the API refuses to change, by plural: a patch may not name it.
FIXED = {
    "deployments": [("spec", "selector")],
    "jobs": [("spec", "selector"), ("spec", "template")],
    "statefulsets": [("spec", "selector"), ("spec", "serviceName"), ("spec", "volumeClaimTemplates")],
    "persistentvolumeclaims": [("spec", "accessModes"), ("spec", "storageClassName")],
}
VERBS = ["create", "get", "list", "patch", "update", "delete", "watch"]


class FakeKubernetes:
    """Objects by (group version, plural, namespace, name); what was created or changed is what was sent."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.objects: dict[tuple[str, str, str | None, str], dict] = {}
        handler = type("Bound", (_Handler,), {"fake": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def kubeconfig(self) -> str:
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server.server_port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        users = [{"name": "u", "user": {}}]
        config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context], "users": users}
        return json.dumps(config | {"current-context": "c"})


class _Handler(BaseHTTPRequestHandler):
    fake: FakeKubernetes
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def answer(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        status, said = self.discover(path) or self.serve(path, query, body)
        content = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815  # the server's names

    def discover(self, path: str) -> tuple[int, dict] | None:
        if path == "/version":
            major, minor = self.fake.version.removeprefix("v").split(".")[:2]
            return 200, {"major": major, "minor": minor, "gitVersion": self.fake.version}
        if path == "/api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups()}
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version in RESOURCES:
            found = [_resource(plural, kind) for plural, kind in RESOURCES[version].items()]
            return 200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": found}
        return None

    def serve(self, path: str, query: str, body: dict) -> tuple[int, dict]:
        where = re.fullmatch(
            r"/apis?/(?P<version>v1|[^/]+/[^/]+)(?:/namespaces/(?P<space>[^/]+))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?",
            path,
        )
        if where is None or where["plural"] not in RESOURCES.get(where["version"], {}):
            return _status(HTTPStatus.NOT_FOUND, "NotFound", path)
        version, space, plural = where["version"], where["space"], where["plural"]
        name = where["name"] or body.get("metadata", {}).get("name")
        key = (version, plural, space, name)
        if self.command == "GET" and not where["name"]:
            return 200, self.listed(version, plural, space, query)
        return getattr(self, f"on_{self.command.lower()}")(key, body)

    def listed(self, version: str, plural: str, space: str | None, query: str) -> dict:
        wanted = parse_qs(query).get("labelSelector", [""])[0]
        labels = dict(pair.split("=", 1) for pair in wanted.split(",") if "=" in pair)
        items = [
            found
            for key, found in self.fake.objects.items()
            if key[:3] == (version, plural, space) and labels.items() <= found["metadata"].get("labels", {}).items()
        ]
        return {"kind": f"{RESOURCES[version][plural]}List", "apiVersion": version, "metadata": {}, "items": items}

    def on_get(self, key: tuple, _body: dict) -> tuple[int, dict]:
        found = self.fake.objects.get(key)
        return (200, found) if found else _status(HTTPStatus.NOT_FOUND, "NotFound", f"{key[1]} {key[3]} not found")

    def on_post(self, key: tuple, body: dict) -> tuple[int, dict]:
        if key in self.fake.objects:
            return _status(HTTPStatus.CONFLICT, "AlreadyExists", key[3])
        body["metadata"] |= {"uid": str(uuid.uuid4()), "resourceVersion": "1"}
        if key[1] not in CLUSTER_WIDE:
            body["metadata"]["namespace"] = key[2]
        if key[1] == "pods":
            # So that a test hook ends.
            body["status"] = {"phase": "Succeeded"}
        self.fake.objects[key] = body
        return 201, body

    def on_put(self, key: tuple, body: dict) -> tuple[int, dict]:
        self.fake.objects[key] = body
        return 200, body

    def on_patch(self, key: tuple, body: dict) -> tuple[int, dict]:
        found = self.fake.objects[key]
        for path in FIXED.get(key[1], []):
            if held(body, path) is not None:
                why = f"{'.'.join(path)}: field is immutable"
                return _status(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", why)
        if "strategic" in self.headers["Content-Type"]:
            # Lists are merged by name there; the tests look at what an upgrade renders, not at the merge.
            found = body | {name: found[name] for name in ("apiVersion", "kind", "metadata") if name not in body}
        self.fake.objects[key] = merge(self.fake.objects[key], body)
        return 200, self.fake.objects[key]

    def on_delete(self, key: tuple, _body: dict) -> tuple[int, dict]:
        if self.fake.objects.pop(key, None) is None:
            return _status(HTTPStatus.NOT_FOUND, "NotFound", key[3])
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}


def held(body: dict, path: tuple[str, ...]) -> object:
    found: object = body
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def merge(old: dict, new: dict) -> dict:
    """RFC 7396."""
    merged = dict(old)
    for name, value in new.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = merge(merged[name], value)
        else:
            merged[name] = value
    return merged


def _groups() -> list[dict]:
    groups: dict[str, list[dict]] = {}
    for version in RESOURCES:
        if "/" in version:
            group, _, short = version.partition("/")
            groups.setdefault(group, []).append({"groupVersion": version, "version": short})
    return [{"name": name, "versions": found, "preferredVersion": found[0]} for name, found in groups.items()]


def _resource(plural: str, kind: str) -> dict:
    named = {"name": plural, "singularName": kind.lower(), "kind": kind, "verbs": VERBS}
    return named | {"namespaced": plural not in CLUSTER_WIDE}


def _status(code: HTTPStatus, reason: str, message: str) -> tuple[int, dict]:
    said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message}
    return code.value, said | {"reason": reason, "code": code.value}
