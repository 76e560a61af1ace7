"""Where pulled weights lie, and the checksums they are held to."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from gpu_worker.weights.hubs import HubFile, Repository

MANIFEST = "checksums.json"


def write_manifest(folder: Path, repository: Repository) -> None:
    """Written last: a folder with a manifest was pulled whole."""
    files = {file.path: {"size": file.size, "sha256": digest(folder / file.path)} for file in repository.files}
    said = {"name": repository.name, "revision": repository.revision, "licence": repository.licence, "files": files}
    half = folder / f".{MANIFEST}"
    half.write_text(json.dumps(said, indent=1))
    half.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> Repository | None:
    if not (folder / MANIFEST).is_file():
        return None
    said = json.loads((folder / MANIFEST).read_text())
    files = tuple(HubFile(path, file["size"], file["sha256"]) for path, file in said["files"].items())
    return Repository(said["name"], said["revision"], said["licence"], files)


def damage(folder: Path, files: Iterable[HubFile]) -> Iterator[str]:
    """What is not as it should be, one line each. Reads every byte."""
    for file in files:
        path = folder / file.path
        if not path.is_file():
            yield f"{file.path} is missing"
        elif path.stat().st_size != file.size:
            yield f"{file.path} has {path.stat().st_size} bytes instead of {file.size}"
        elif file.sha256 and digest(path) != file.sha256:
            yield f"{file.path} has another checksum"


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
