"""Checkpoints of a half-denoised clip: safetensors with a few words beside the tensors, never a pickle.

A checkpoint is believed only when it says that it was made for this very job, by this version with these weights, and
when its parts have exactly the names, types and sizes that this clip has. Any other is ignored: the clip starts anew.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from gpu_worker.engine.denoise import Latents
from gpu_worker.engine.protocol import Render

VERSION = "1"
MAX_HEADER_BYTES, MAX_DIGITS = 1 << 16, 12
_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.uint8: "U8"}

logger = logging.getLogger(__name__)


class UnfitCheckpoint(Exception):
    """The checkpoint does not fit this job; the clip starts anew."""


@dataclass(frozen=True)
class Standing:
    """Everything that decides the rest of a clip: the schedule itself follows from the plan."""

    at: Latents
    first_frame: torch.Tensor | None
    generator: torch.Tensor
    kernel: str = ""
    """The attention kernel it was computed with: another one would end the clip in other bits."""

    spent_ms: int = 0
    """On the device so far, by all attempts that led here."""

    def parts(self) -> dict[str, torch.Tensor]:
        found = {"sample": self.at.sample, "generator": self.generator}
        if self.at.previous_prediction is not None:
            found["previous_prediction"] = self.at.previous_prediction
        if self.first_frame is not None:
            found["first_frame"] = self.first_frame
        return {name: part.detach().cpu().contiguous() for name, part in found.items()}


@dataclass(frozen=True)
class Form:
    """What the checkpoint of a clip looks like; nothing else is read."""

    latent_shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    steps: int
    has_first_frame: bool
    has_prediction: bool

    def parts(self) -> dict[str, tuple[torch.dtype, list[int]]]:
        latents = (self.dtype, list(self.latent_shape))
        found = {"sample": latents, "generator": (torch.uint8, list(torch.Generator("cpu").get_state().shape))}
        found |= {"first_frame": latents} if self.has_first_frame else {}
        # The DPM scheduler predicts in float32, whatever the model's own type.
        return found | ({"previous_prediction": (torch.float32, latents[1])} if self.has_prediction else {})

    def size_bytes(self) -> int:
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.parts().values())


class Checkpoints:
    """Those of one job: the one it may go on from, and those it leaves. `made_for` names all that must agree."""

    def __init__(
        self, job: Render, made_for: Mapping[str, str], is_asked: Callable[[], bool], tell: Callable[[Path, int], None]
    ) -> None:
        self._folder = Path(job.checkpoint_folder) if job.checkpoint_folder else None
        self._every_s = job.checkpoint_every_s
        self._from = Path(job.checkpoint_path) if job.checkpoint_path else None
        self._made_for = dict(made_for)
        self._is_asked, self._tell = is_asked, tell
        self._started = self._kept = time.monotonic()
        self.resumed_at = self.earlier_ms = 0

    def read(self, form: Form) -> Standing | None:
        """Where the clip may go on, by the newest checkpoint; None if it has to start anew."""
        if self._from is None:
            return None
        try:
            standing = read_checkpoint(self._from, self._made_for, form)
        except (UnfitCheckpoint, SafetensorError, OSError, ValueError, RuntimeError) as exc:
            logger.warning("checkpoint ignored", extra={"error": repr(exc)[:300]})
            return None
        self.resumed_at, self.earlier_ms = standing.at.step, standing.spent_ms
        self._started = time.monotonic()
        return standing

    def keep(self, standing: Standing, total: int) -> None:
        """Leave a checkpoint if one is due or asked for; what a full disk refuses costs time later, not the job."""
        if self._folder is None or not self._is_due(standing.at.step == total):
            return
        path = self._folder / f"checkpoint-{standing.at.step}.safetensors"
        spent_ms = self.earlier_ms + round(1000 * (time.monotonic() - self._started))
        try:
            write_checkpoint(path, self._made_for, replace(standing, spent_ms=spent_ms))
        except (OSError, SafetensorError) as exc:
            logger.warning("checkpoint not written", extra={"error": repr(exc)[:300]})
            path.unlink(missing_ok=True)
            return
        self._kept = time.monotonic()
        # Whoever must begin this clip again, for want of memory, say, goes on from here.
        self._from = path
        self._tell(path, standing.at.step)

    def _is_due(self, is_last: bool) -> bool:
        # After the last step of a long clip too: what follows may fail, or be handed on.
        since = self._started if is_last else self._kept
        return self._is_asked() or time.monotonic() - since >= self._every_s


def made_for(job: Render, prompt: str, versions: Mapping[str, str]) -> dict[str, str]:
    """What a checkpoint must agree with: job, plan, seed, prompt, weights, engine and device type."""
    return {
        **versions,
        "device": versions.get("device", "").partition(":")[0],
        "checkpoint": VERSION,
        "job": job.job_id,
        "plan": job.plan.digest(),
        "seed": str(job.seed),
        "prompt": hashlib.sha256(prompt.encode()).hexdigest(),
    }


def write_checkpoint(path: Path, made_for: Mapping[str, str], standing: Standing) -> None:
    """Whole or not at all: a reader never sees half of it."""
    parts = standing.parts()
    stood = {"step": str(standing.at.step), "kernel": standing.kernel, "spent_ms": str(standing.spent_ms)}
    stood["sha256"] = _digest(parts)
    half = path.with_suffix(".half")
    try:
        save_file(parts, half, metadata={**made_for, **stood})
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def read_checkpoint(path: Path, made_for: Mapping[str, str], form: Form) -> Standing:
    """The standing it holds; UnfitCheckpoint unless every word and every part is as this clip needs it."""
    if not 0 <= path.stat().st_size - form.size_bytes() <= MAX_HEADER_BYTES:
        raise UnfitCheckpoint(f"{path.stat().st_size} bytes")
    with safe_open(path, framework="pt", device="cpu") as held:
        words = dict(held.metadata() or {})
        step, kernel, spent_ms, digest = (words.pop(name, "") for name in ("step", "kernel", "spent_ms", "sha256"))
        if words != made_for:
            raise UnfitCheckpoint(f"made for another {', '.join(sorted(_differences(words, made_for)))}")
        slices = {name: held.get_slice(name) for name in held.keys()}  # noqa: SIM118  # not a mapping
        said = {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}
        if said != {name: (_NAMES[dtype], shape) for name, (dtype, shape) in form.parts().items()}:
            raise UnfitCheckpoint("other parts")
        parts = {name: held.get_tensor(name) for name in said}
    are_numbers = all(word.isdecimal() and len(word) <= MAX_DIGITS for word in (step, spent_ms))
    if _digest(parts) != digest or not are_numbers or not 1 <= int(step) <= form.steps:
        raise UnfitCheckpoint("damaged")
    torch.Generator("cpu").set_state(parts["generator"])
    at = Latents(parts["sample"].to(form.device), int(step), _to(parts.get("previous_prediction"), form.device))
    return Standing(at, _to(parts.get("first_frame"), form.device), parts["generator"], kernel, int(spent_ms))


def _to(part: torch.Tensor | None, device: torch.device) -> torch.Tensor | None:
    return None if part is None else part.to(device)


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    return {name for name in {*one, *other} if one.get(name) != other.get(name)}


def _digest(parts: Mapping[str, torch.Tensor]) -> str:
    total = hashlib.sha256()
    for name, part in sorted(parts.items()):
        total.update(name.encode())
        total.update(part.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()
