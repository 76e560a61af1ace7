"""The chart, installed by the real Helm engine into a fake Kubernetes; the engine lives in a venv of its own.

KUBERNETES="1.28 1.34 1.37" installs on several versions; the newest but one release year is the default.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.homes import made_once

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "cogvideox-server"
CI = sorted((CHART / "ci").glob("*-values.yaml"))
VERSIONS = os.environ.get("KUBERNETES", "1.34").split()
# helm-sdkpy asks for Python 3.12 and works with 3.11.
TOOLS = ["helm-sdkpy==0.1.32", "kubernetes-validate==1.37.0"]
VALIDATORS = ["keda@2.0.0", "prometheus-operator@6.0.0", "gateway-api@2.0.0"]


class Rendered:
    """What one install or upgrade made: the objects as sent, the test hooks, the notes, what is not valid."""

    def __init__(self, said: dict[str, Any], live: list[dict]) -> None:
        self.objects: list[dict] = said["objects"] + said["hooks"]
        self.live = live
        self.notes: str = said["notes"]
        self.invalid: list[str] = said["invalid"]

    def all(self, kind: str) -> list[dict]:
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str, suffix: str = "") -> dict:
        (found,) = [found for found in self.all(kind) if found["metadata"]["name"].endswith(suffix)]
        return found

    def pods(self) -> Iterator[tuple[str, dict, dict]]:
        """Every pod: its name, its metadata, its spec."""
        for found in self.objects:
            name = f"{found['kind']}/{found['metadata']['name']}"
            if found["kind"] == "Pod":
                yield name, found["metadata"], found["spec"]
            elif "template" in found.get("spec", {}):
                yield name, found["spec"]["template"]["metadata"], found["spec"]["template"]["spec"]


class Helm:
    """The engine's process: one task a line, one answer a line."""

    def __init__(self, python: Path, home: Path) -> None:
        environment = {"HELM_DRIVER": "memory", "HOME": str(home), "PATH": os.environ["PATH"]}
        self.log = (home / "helm.log").open("wb")
        self.process = subprocess.Popen(
            [str(python), "-P", str(Path(__file__).with_name("engine.py"))],
            env=environment | {"PYTHONPATH": str(Path(__file__).parent)},
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        self._known: dict[str, dict] = {}

    def install(self, values: dict, kubernetes: str = VERSIONS[-1]) -> Rendered:
        return self.upgrade(values, kubernetes=kubernetes)[0]

    def upgrade(self, *steps: dict, kubernetes: str = VERSIONS[-1]) -> list[Rendered]:
        """Install with the first values, upgrade to each of the others; `live` is what there is in the end."""
        said = self._ask({"kubernetes": kubernetes, "steps": steps})
        assert "error" not in said, said["error"]
        return [Rendered(step, said["live"]) for step in said["steps"]]

    def refusal(self, *steps: dict, kubernetes: str = VERSIONS[-1]) -> str:
        """Why these values, or the last step of this upgrade, are refused."""
        return self._ask({"kubernetes": kubernetes, "steps": steps}).get("error", "")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)
        self.log.close()

    def _ask(self, task: dict) -> dict:
        line = json.dumps(task)
        if line not in self._known:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()
            self._known[line] = json.loads(self.process.stdout.readline())
        return self._known[line]


def tools_python() -> Path:
    """The interpreter of the venv with the Helm engine; made once and kept."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("helm-sdkpy: the Helm engine comes for Linux on x86-64 only")

    def install(home: Path) -> None:
        venv.create(home, with_pip=True, clear=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--ignore-requires-python", *TOOLS], check=True)

    return made_once("chart", install) / "bin" / "python"


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    helm = Helm(tools_python(), tmp_path_factory.mktemp("helm"))
    yield helm
    helm.close()


@pytest.fixture(scope="session")
def validators() -> Path:
    """A folder with the compiled validators of the custom resources; made once and kept."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool}: custom resources are not validated without it")

    def install(home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        packages = [f"@kubernetes-models/{name}" for name in VALIDATORS]
        npm = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(home)]
        subprocess.run([*npm, *packages], check=True)

    return made_once("chart-validators", install)


@pytest.fixture(params=VERSIONS)
def kubernetes(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@cache
def ci_values(name: str) -> dict:
    return yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())


def overlay(base: dict, over: dict) -> dict:
    """As Helm lays values over each other: maps by key, anything else whole."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlay(merged[key], value) if both else value
    return merged


@pytest.fixture(params=[path.name.removesuffix("-values.yaml") for path in CI])
def deployment(request: pytest.FixtureRequest) -> str:
    """The name of each file of values under ci/."""
    return str(request.param)


@pytest.fixture
def rendered(helm: Helm, deployment: str) -> Rendered:
    return helm.install(ci_values(deployment))
