"""What images install is what pyproject.toml asks for, each by its hash but torch. `make locks` writes them anew."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
LOCKS = ROOT / "deploy" / "locks"
TORCH = re.compile(r"(torch|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)")


def locked(name: str) -> dict[str, list[str]]:
    """Versions by package: there may be several, for several Pythons."""
    found: dict[str, list[str]] = {}
    for line in (LOCKS / f"{name}.txt").read_text().splitlines():
        if pinned := re.match(r"([\w.-]+)==([\w.+]+)", line):
            found.setdefault(canonicalize_name(pinned[1]), []).append(pinned[2])
    return found


def asked(*extras: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize(
    ("names", "extras"), [(["gateway"], ["tracing"]), (["worker", "torch-cuda"], ["worker", "tracing"])]
)
def test_every_dependency_is_locked_within_its_range(names: list[str], extras: list[str]) -> None:
    held = {package: versions for name in names for package, versions in locked(name).items()}
    for requirement in asked(*extras):
        versions = held.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not locked: make locks"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: make locks"


@pytest.mark.parametrize("name", ["gateway", "worker", "build"])
def test_every_locked_package_has_a_hash(name: str) -> None:
    entries = re.split(r"\n(?=\S)", (LOCKS / f"{name}.txt").read_text())

    assert len(entries) > 20
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_only_torch_and_its_cuda_packages_go_without() -> None:
    assert locked("torch-cpu") == {"torch": locked("torch-cuda")["torch"]}
    assert [name for name in locked("torch-cuda") if not TORCH.fullmatch(name)] == []
    assert [name for name in locked("worker") if TORCH.fullmatch(name)] == []


def test_the_gateway_locks_the_versions_of_the_worker() -> None:
    gateway, worker = locked("gateway"), locked("worker")

    assert {name: versions for name, versions in gateway.items() if worker.get(name) != versions} == {}


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_images_are_built_from_the_packages_of_the_wheel_and_no_others(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    text = (ROOT / "deploy" / f"{name}.Dockerfile").read_text()
    seen = (ROOT / ".dockerignore").read_text().splitlines()

    assert sorted(re.findall(r"^COPY (\w+) \1$", text, re.M)) == sorted(packages)
    assert [package for package in packages if f"!{package}" not in seen] == []
