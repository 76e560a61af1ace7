"""The loaded model: one text encoder and one VAE, shared by the transformers for text and for image to video."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXTransformer3DModel

from gpu_worker.engine.memory import PRESETS, MemoryPreset, Place, Sizes
from gpu_worker.engine.prompts import PromptCache
from gpu_worker.engine.visit import plain_parts, settle, visiting

_SCHEDULERS: dict[str, Any] = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}


@dataclass
class Model:
    tokenizer: Any
    text_encoder: Any
    vae: AutoencoderKLCogVideoX
    transformers: dict[str, CogVideoXTransformer3DModel]
    scheduler_configs: dict[str, dict[str, Any]]
    """By mode, as for `image_scale`: pipelines that share weights may still differ in their configs."""

    image_scale: float
    device: torch.device
    revision: str
    checksum: str
    memory: MemoryPreset = PRESETS[0]
    prompts: PromptCache = field(default_factory=PromptCache)

    def scheduler(self, name: str, mode: str) -> Any:
        """A fresh scheduler: it keeps state, so each render has its own."""
        return _SCHEDULERS[name].from_config(self.scheduler_configs[mode])

    @contextlib.contextmanager
    def at_work(self, module: Any, place: Place) -> Iterator[Any]:
        """The module where it works; a visitor leaves again, also after an early end."""
        if place is not Place.VISIT:
            yield module
            return
        with visiting(module, self.device) as visitor:
            yield visitor

    def settle(self, memory: MemoryPreset) -> None:
        """Give every part the home of this preset."""
        self.memory = memory
        settle(self.text_encoder, home_of(memory.text, self.device))
        settle(self.vae, home_of(memory.vae, self.device))
        for transformer in self.transformers.values():
            settle_transformer(transformer, memory.transformer, self.device)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def sizes(self) -> Sizes:
        transformers = [size_bytes(part) for part in self.transformers.values()]
        return Sizes(
            text=size_bytes(self.text_encoder),
            transformers=sum(transformers),
            transformer=max(transformers),
            block=max(size_bytes(part.transformer_blocks[0]) for part in self.transformers.values()),
            vae=size_bytes(self.vae),
        )


def home_of(place: Place, device: torch.device) -> torch.device:
    return device if place is Place.DEVICE else torch.device("cpu")


def settle_transformer(transformer: Any, place: Place, device: torch.device) -> None:
    """Of a streamed one all but the blocks stays on the device: that is little."""
    for name, part in transformer.named_children():
        at_home = place is Place.DEVICE or (place is Place.STREAM and name != "transformer_blocks")
        settle(part, device if at_home else torch.device("cpu"))


def size_bytes(module: Any) -> int:
    return sum(plain.nbytes for part in module.parameters() for plain in plain_parts(part))
