"""The architectures that can be measured: the published ones, and two that a CPU can run."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from torch import nn

from gpu_worker.engine.load import LARGE_GRID, set_tiles
from gpu_worker.engine.memory import PRESETS, MemoryPreset
from gpu_worker.engine.model import Model
from gpu_worker.engine.tiny import SCHEDULER


@dataclass(frozen=True)
class Shape:
    checkpoint: str
    """Whose presets of the catalogue are measured."""

    layers: int
    heads: int
    head_dim: int
    patch_t: int | None
    rotary: bool
    size: tuple[int, int]
    frames: int
    text_tokens: int = 226
    text_dim: int = 4096
    time_dim: int = 512
    vae_channels: tuple[int, ...] = (128, 256, 256, 512)
    vae_layers: int = 3


SHAPES = {
    "tiny": Shape("tiny-random", 2, 4, 16, 2, True, (64, 64), 81, 64, 32, 32, (8, 8, 8, 8), 1),
    "small": Shape("tiny-random", 12, 8, 64, 2, True, (128, 96), 17, 64, 128, 128, (16, 16, 32, 32), 1),
    # For `--model tiny`: the trained one tells how far an approximation is from exact.
    "built-in": Shape("tiny", 6, 6, 32, 2, True, (96, 96), 81, 32, 128, 48, (16, 16, 24, 32), 1),
    "2b": Shape("cogvideox-2b", 30, 30, 64, None, False, (720, 480), 49),
    "5b": Shape("cogvideox-5b", 42, 48, 64, None, True, (720, 480), 49),
    "1.5-5b": Shape("cogvideox-1.5-5b", 42, 48, 64, 2, True, (1360, 768), 81),
}


def build(shape: Shape, device: torch.device, dtype: torch.dtype, memory: MemoryPreset = PRESETS[0]) -> Model:
    """Directly on the device, in the type it works in: main memory never holds the weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), torch.random.fork_rng(devices=[]):
            torch.manual_seed(2024)
            transformer, vae = _transformer(shape), _vae(shape)
    finally:
        torch.set_default_dtype(before)
    set_tiles(vae)
    model = Model(
        tokenizer=None,
        text_encoder=nn.Identity(),
        vae=vae.eval().requires_grad_(False),
        transformers={"t2v": transformer.eval().requires_grad_(False)},
        scheduler_configs={"t2v": dict(SCHEDULER)},
        image_scale=0.7,
        device=device,
        revision="random",
        checksum="",
    )
    model.settle(memory)
    return model


def _transformer(shape: Shape) -> Any:
    latent = (LARGE_GRID, LARGE_GRID) if shape.patch_t else (shape.size[1] // 8, shape.size[0] // 8)
    return CogVideoXTransformer3DModel(
        num_attention_heads=shape.heads,
        attention_head_dim=shape.head_dim,
        in_channels=16,
        out_channels=16,
        time_embed_dim=shape.time_dim,
        text_embed_dim=shape.text_dim,
        num_layers=shape.layers,
        sample_height=latent[0],
        sample_width=latent[1],
        sample_frames=shape.frames,
        patch_size=2,
        patch_size_t=shape.patch_t,
        patch_bias=shape.patch_t is None,
        max_text_seq_length=shape.text_tokens,
        use_rotary_positional_embeddings=shape.rotary,
    )


def _vae(shape: Shape) -> Any:
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=shape.vae_channels,
        latent_channels=16,
        layers_per_block=shape.vae_layers,
        norm_num_groups=min(32, shape.vae_channels[0] // 4),
        temporal_compression_ratio=4,
        sample_height=480,
        sample_width=720,
        scaling_factor=0.7,
    )
