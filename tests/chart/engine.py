"""Run in the chart tools' venv: the real Helm engine against a fake API. A JSON task a line in, an answer a line out.

A task: {"kubernetes": "1.34", "steps": [values, values…]}: installs the chart with the first values, upgrades to the
others. Helm reads HELM_DRIVER when its library is loaded, so this process must be started with HELM_DRIVER=memory.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import helm_sdkpy
import kubernetes_validate
import yaml
from fake_kubernetes import FakeKubernetes

CHART = Path(__file__).parents[2] / "helm" / "cogvideox-server"
CUSTOM = ("keda.sh/", "monitoring.coreos.com/", "gateway.networking.k8s.io/")


def main() -> None:
    for line in sys.stdin:
        task = json.loads(line)
        fake = FakeKubernetes(f"v{task['kubernetes']}.0")
        try:
            said = asyncio.run(run(fake, task))
        except helm_sdkpy.HelmError as exc:
            said = {"error": str(exc)}
        finally:
            fake.close()
        print(json.dumps(said), flush=True)


async def run(fake: FakeKubernetes, task: dict) -> dict:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as kubeconfig:
        kubeconfig.write(fake.kubeconfig())
        kubeconfig.flush()
        helm = helm_sdkpy.Configuration(namespace="video", kubeconfig=kubeconfig.name)
        first, *later = task["steps"]
        releases = [await helm_sdkpy.Install(helm).run("rel", str(CHART), values=first, wait=False)]
        for values in later:
            upgrade = helm_sdkpy.Upgrade(helm).run("rel", str(CHART), values=values, wait=False, reset_values=True)
            releases.append(await upgrade)
    return {"steps": [told(release, task["kubernetes"]) for release in releases], "live": list(fake.objects.values())}


def told(release: dict, version: str) -> dict:
    rendered = [found for found in yaml.safe_load_all(release["manifest"]) if found]
    hooks = [found for hook in release["hooks"] or [] for found in yaml.safe_load_all(hook["manifest"]) if found]
    return {
        "objects": rendered,
        "hooks": hooks,
        "notes": release["info"]["notes"],
        "invalid": [problem for found in rendered + hooks if (problem := why_invalid(found, version))],
    }


def why_invalid(found: dict, version: str) -> str | None:
    """Strictly: a field that this version does not know is an error, as the API would only warn of it."""
    name = f"{found['kind']}/{found['metadata']['name']}"
    try:
        kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return None if found["apiVersion"].startswith(CUSTOM) else f"{name}: no schema"
    except kubernetes_validate.ValidationError as exc:
        return f"{name}: {'.'.join(map(str, exc.path))}: {exc.message}"
    return None


if __name__ == "__main__":
    main()
