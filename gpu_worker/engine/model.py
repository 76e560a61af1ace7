"""The loaded model: one text encoder and one VAE, shared by the transformers for text and for image to video."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXTransformer3DModel

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
    offload: bool = False
    negative_embeds: dict[int, torch.Tensor] = field(default_factory=dict)

    def scheduler(self, name: str, mode: str) -> Any:
        """A fresh scheduler: it keeps state, so each render has its own."""
        return _SCHEDULERS[name].from_config(self.scheduler_configs[mode])

    @contextlib.contextmanager
    def on_device(self, module: Any) -> Iterator[Any]:
        """The module on the device; with offload it leaves again, also after an early end."""
        if not self.offload:
            yield module
            return
        try:
            yield module.to(self.device)
        finally:
            module.to("cpu")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
