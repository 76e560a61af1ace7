"""The two hubs our users download from, each by its own library: what a repository holds, and its files on disk."""

import fnmatch
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from video_jobs.errors import ModelUnavailable

PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
PATTERNS = [f"{part}/*{ending}" for part in PARTS for ending in (".json", ".safetensors", ".model", ".txt")]
WANTED = [*PATTERNS, *(f"{mode}/{pattern}" for mode in ("t2v", "i2v") for pattern in PATTERNS), "model_index.json"]


class HubFile(NamedTuple):
    path: str
    size: int
    sha256: str | None
    """None for small files that the hub keeps no checksum of."""


class Repository(NamedTuple):
    name: str
    revision: str
    licence: str
    files: tuple[HubFile, ...]


class Hub(Protocol):
    label: str
    owner: str
    """Who publishes CogVideoX there."""

    def look_up(self, name: str, revision: str | None) -> Repository:
        """The files that are needed; ModelUnavailable if there is no such model or the hub is silent."""

    def download(self, repository: Repository, paths: Sequence[str], target: Path) -> None:
        """Into this folder, going on where an earlier download stopped, with progress on a terminal."""


class HuggingFace:
    """`HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` are honoured by its library."""

    label, owner = "huggingface", "zai-org"

    def look_up(self, name: str, revision: str | None) -> Repository:
        from httpx2 import HTTPError
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        try:
            found = HfApi().model_info(name, revision=revision, files_metadata=True)
        except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, HTTPError, OSError) as exc:
            raise ModelUnavailable(f"{name}: {_first_line(exc)}") from exc
        files = [
            HubFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None)
            for file in found.siblings or []
        ]
        licence = str((found.card_data.get("license") if found.card_data else None) or "not named")
        return Repository(name, found.sha or "main", licence, _needed(files))

    def download(self, repository: Repository, paths: Sequence[str], target: Path) -> None:
        from httpx2 import HTTPError
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils.tqdm import disable_progress_bars

        if not sys.stderr.isatty():
            disable_progress_bars()
        try:
            snapshot_download(
                repository.name, revision=repository.revision, local_dir=target, allow_patterns=list(paths)
            )
        except (HfHubHTTPError, HTTPError, OSError) as exc:
            raise ModelUnavailable(f"{repository.name}: {_first_line(exc)}") from exc


class ModelScope:
    """`MODELSCOPE_ENDPOINT` and `MODELSCOPE_API_TOKEN` are honoured by its library."""

    label, owner = "modelscope", "ZhipuAI"

    def look_up(self, name: str, revision: str | None) -> Repository:
        from modelscope_hub import HubApi, HubError

        at = revision or "master"
        try:
            listed = HubApi().list_repo_files(name, "model", revision=at)
        except (HubError, OSError, ValueError) as exc:
            raise ModelUnavailable(f"{name}: {_first_line(exc)}") from exc
        files = [HubFile(file.path, file.size, file.sha256) for file in listed if not file.is_dir]
        return Repository(name, at, "not named", _needed(files))

    def download(self, repository: Repository, paths: Sequence[str], target: Path) -> None:
        from modelscope_hub import HubApi, HubError

        bars: list[type] | None = None if sys.stderr.isatty() else []
        try:
            HubApi().download_repo(
                repository.name,
                "model",
                revision=repository.revision,
                local_dir=target,
                allow_patterns=list(paths),
                progress_callbacks=bars,
            )
        except (HubError, OSError, ValueError) as exc:
            raise ModelUnavailable(f"{repository.name}: {_first_line(exc)}") from exc


def hub_of(name: str) -> tuple[Hub, str]:
    """`modelscope:ORG/NAME`, or a name on the Hugging Face hub."""
    hub: Hub = ModelScope() if name.startswith("modelscope:") else HuggingFace()
    library = "modelscope_hub" if isinstance(hub, ModelScope) else "huggingface_hub"
    if importlib.util.find_spec(library) is None:
        raise ModelUnavailable(f"{library} is not installed: pip install 'cogvideox-server[worker]'")
    return hub, name.removeprefix("modelscope:")


def _needed(files: list[HubFile]) -> tuple[HubFile, ...]:
    return tuple(file for file in files if any(fnmatch.fnmatchcase(file.path, pattern) for pattern in WANTED))


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
