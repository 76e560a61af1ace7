"""LoRA adapters, merged into the weights and taken out again: no reload, no cost while rendering."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from video_jobs.errors import ModelUnavailable

_DOWN = re.compile(r"^(?:transformer\.|base_model\.model\.)*(.+)\.lora(?:_A|_down|\.down)(?:\.default)?\.weight$")
_UPS = {"_A": "_B", "_down": "_up", ".down": ".up"}
_PARTS = {"to_q": 0, "to_k": 1, "to_v": 2}


@dataclass(frozen=True)
class Patch:
    """What is added to one matrix, or to a third of a fused one."""

    target: str
    third: int | None
    down: torch.Tensor
    up: torch.Tensor
    scale: float

    def delta(self, device: torch.device) -> torch.Tensor:
        return self.scale * (self.up.to(device, torch.float32) @ self.down.to(device, torch.float32))


class Adapters:
    """Of one transformer. The touched matrices are kept in main memory, so that taking out gives back every bit."""

    def __init__(self, transformer: Any, device: torch.device) -> None:
        self._transformer, self._device = transformer, device
        self._originals: dict[str, torch.Tensor] = {}
        self.held = ""
        self.swaps = 0

    def hold(self, sha256: str, path: Path | None, scale: float) -> bool:
        """Have exactly this adapter in the weights, none for an empty checksum; whether anything had to change."""
        wanted = f"{sha256}:{scale}" if sha256 else ""
        if wanted == self.held:
            return False
        patches = read_adapter(path, sha256, scale) if sha256 else []
        for patch in patches:
            self._check(patch)
        self._restore()
        for patch in patches:
            self._add(patch)
        self.held = wanted
        self.swaps += 1
        return True

    def _check(self, patch: Patch) -> None:
        try:
            rows, columns = self._matrix(patch).shape
        except AttributeError as exc:
            raise ModelUnavailable(f"the adapter's {patch.target} is no part of these weights") from exc
        if (patch.up.shape[0], patch.down.shape[1]) != (rows, columns) or patch.up.shape[1] != patch.down.shape[0]:
            raise ModelUnavailable(f"the adapter's {patch.target} does not fit these weights")

    def _matrix(self, patch: Patch) -> torch.Tensor:
        weight: torch.Tensor = self._transformer.get_submodule(patch.target).weight.data
        if patch.third is None:
            return weight.flatten(1)
        return weight.chunk(3)[patch.third]

    def _add(self, patch: Patch) -> None:
        if patch.target not in self._originals:
            weight = self._transformer.get_submodule(patch.target).weight.data
            self._originals[patch.target] = weight.cpu().clone()
        matrix = self._matrix(patch)
        # In place: compiled code, pinned pages and visitors keep the tensor they know.
        matrix.copy_(matrix.to(self._device, torch.float32) + patch.delta(self._device))

    def _restore(self) -> None:
        for target, original in self._originals.items():
            self._transformer.get_submodule(target).weight.data.copy_(original)
        self._originals.clear()
        self.held = ""


def read_adapter(path: Path | None, sha256: str, scale: float) -> list[Patch]:
    """Its patches; ModelUnavailable unless the file is here, is safetensors, and is the one the plan names."""
    if path is None:
        raise ModelUnavailable("this worker's catalogue lacks the adapter")
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise ModelUnavailable(f"{path.name} is not the adapter that the catalogue names")
        with safe_open(path, framework="pt", device="cpu") as held:
            names = set(held.keys())
            patches = list(_patches(names, held.get_tensor, held.metadata() or {}, scale))
    except (OSError, SafetensorError) as exc:
        raise ModelUnavailable(f"{path.name}: {exc}") from exc
    if not patches or len(names - _known(names)) > 0:
        raise ModelUnavailable(f"{path.name} holds parts that are no LoRA matrices")
    return patches


def _known(names: set[str]) -> set[str]:
    downs = {name for name in names if _DOWN.match(name)}
    return downs | {_up_of(name) for name in downs} | {name for name in names if name.endswith(".alpha")}


def _up_of(down: str) -> str:
    return re.sub(r"\.lora(_A|_down|\.down)", lambda found: f".lora{_UPS[found[1]]}", down)


def _patches(
    names: set[str], read: Callable[[str], torch.Tensor], words: Mapping[str, str], scale: float
) -> Iterator[Patch]:
    said = _note(words)
    for name in sorted(names):
        found = _DOWN.match(name)
        if found is None:
            continue
        down, up, alpha = read(name), read(_up_of(name)), f"{name.partition('.lora')[0]}.alpha"
        rank = down.shape[0]
        strength = float(read(alpha)) if alpha in names else float(said.get("lora_alpha", rank))
        share = strength / (math.sqrt(rank) if said.get("use_rslora") else rank)
        target, third = _place(found[1])
        yield Patch(target, third, down.flatten(1), up.flatten(1), scale * share)


def _note(words: Mapping[str, str]) -> dict[str, Any]:
    """PEFT's own note of how it was trained, where the file has one; what we cannot honour is refused."""
    said = {name.removeprefix("transformer."): value for name, value in _read_note(words).items()}
    if strange := [name for name in ("alpha_pattern", "use_dora") if said.get(name)]:
        raise ModelUnavailable(f"the adapter was trained with {', '.join(strange)}, which is not served here")
    return said


def _read_note(words: Mapping[str, str]) -> dict[str, Any]:
    try:
        said = json.loads(words.get("lora_adapter_metadata", "{}"))
    except ValueError as exc:
        raise ModelUnavailable(f"the adapter's own note cannot be read: {exc}") from exc
    if not isinstance(said, dict):
        raise ModelUnavailable("the adapter's own note is no table")
    return said


def _place(target: str) -> tuple[str, int | None]:
    """Query, key and value are thirds of one matrix here."""
    home, _, name = target.rpartition(".")
    return (f"{home}.to_qkv", _PARTS[name]) if name in _PARTS else (target, None)
