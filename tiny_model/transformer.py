"""The transformer, and the way its first block starts: knowing where it is, and what the noise decided.

A rotary transformer knows only distances. Text keys are not rotated, so attention to them tells the place; five heads
start that way. The sixth averages a pattern of the noise over all tokens: where an object starts is drawn from it.
"""

import math
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import nn

from tiny_model.codes import TOKENS, WIDTH

HEADS, HEAD, LAYERS, PATCH, CHANNELS, TIME = 6, 32, 6, 2, 3, 48
OFS = 2.0  # the constant that the stock pipeline feeds an image transformer
GRID = 16  # latents a side: up to 128 pixels through the stock pipelines
DRAW = 20.0  # the mean pattern of 400 tokens has a deviation of 1/20
SPREAD = 1.5
_HERE, _TEXT, _ACROSS, _DOWN = range(4)  # channels with a meaning at the start
# For each placing head: the first rotary dimension it uses (time 0-7, height 8-19, width 20-31), and its phase.
_PLACES = ((22, -0.3 - math.pi / 2), (10, -0.3 - math.pi / 2), (2, -0.3 - math.pi / 2), (20, 0.0), (8, 0.0))


def build_transformer(images: bool) -> CogVideoXTransformer3DModel:
    return CogVideoXTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD,
        in_channels=2 * CHANNELS if images else CHANNELS,
        out_channels=CHANNELS,
        time_embed_dim=TIME,
        ofs_embed_dim=TIME if images else None,
        text_embed_dim=WIDTH,
        num_layers=LAYERS,
        sample_width=GRID,
        sample_height=GRID,
        sample_frames=81,
        patch_size=PATCH,
        patch_size_t=2,
        patch_bias=False,
        max_text_seq_length=TOKENS,
        use_rotary_positional_embeddings=True,
    )


@torch.no_grad()
def start_transformer(seed: int) -> CogVideoXTransformer3DModel:
    """Fresh weights: calm residual branches, and the first block as told above."""
    torch.manual_seed(seed)
    model = build_transformer(images=True)
    width = HEADS * HEAD
    for block in model.transformer_blocks:
        for norm in (block.norm1, block.norm2):
            _zero(norm.linear)
            norm.linear.bias[2 * width : 3 * width] = 1
            norm.linear.bias[5 * width :] = 1
        for layer in (block.attn1.to_out[0], block.ff.net[2]):
            layer.weight.mul_((2 * LAYERS) ** -0.5)
    for layer in (model.norm_out.linear, model.proj_out, model.ofs_embedding.linear_2):
        _zero(layer)
    _place(model, width)
    return model


def positions(latent_frames: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As the stock pipelines make them, for latents of this size."""
    cos, sin = get_3d_rotary_pos_embed(
        HEAD,
        None,
        (height // PATCH, width // PATCH),
        latent_frames // 2,
        grid_type="slice",
        max_size=(GRID // PATCH, GRID // PATCH),
    )
    return cos, sin


def drawn_offsets(noise: torch.Tensor) -> torch.Tensor:
    """Where this noise, (clips, latents, 3, h, w), puts the object: across and down, each in -1..1."""
    count, frames, channels, height, width = noise.shape
    patches = noise.view(count, frames // 2, 2, channels, height // 2, 2, width // 2, 2).mean((1, 4, 6))
    mean = patches.permute(0, 2, 1, 3, 4).flatten(1) @ noise_patterns().T
    return (mean * DRAW / SPREAD).clamp(-1, 1)


def noise_patterns() -> torch.Tensor:
    """Checkerboards in space and time, in two colours: a picture hardly ever contains them, so noise decides alone."""
    checker = (-1.0) ** (
        torch.arange(8).reshape(2, 2, 2) % 2
        + torch.arange(8).reshape(2, 2, 2) // 2 % 2
        + torch.arange(8).reshape(2, 2, 2) // 4
    )
    tints = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]])
    patterns = (tints[:, :, None] * checker.flatten()).flatten(1)
    return patterns / patterns.norm(dim=1, keepdim=True)


def _place(model: CogVideoXTransformer3DModel, width: int) -> None:
    block, embed = model.transformer_blocks[0], model.patch_embed
    embed.text_proj.weight[[_ACROSS, _DOWN]] = 0
    embed.proj.weight[[_ACROSS, _DOWN]] = 0
    # A patch is flattened as (channel, time, y, x); the first channels are the noisy ones.
    embed.proj.weight[_ACROSS : _DOWN + 1, : CHANNELS * 8] = noise_patterns()
    norm, attention = block.norm1, block.attn1
    norm.norm.weight[[_HERE, _TEXT]] = 0
    norm.norm.bias[[_HERE, _TEXT]] = 0
    norm.linear.bias[_HERE] = 1
    norm.linear.bias[3 * width + _TEXT] = 1
    for layer in (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]):
        _zero(layer)
    out = attention.to_out[0].weight
    for head, (dimension, phase) in enumerate(_PLACES):
        at = HEAD * head
        attention.to_q.weight[at + dimension, _HERE] = math.cos(phase)
        attention.to_q.weight[at + dimension + 1, _HERE] = math.sin(phase)
        attention.to_k.weight[at + dimension, _TEXT] = 1
        attention.to_v.weight[at, _TEXT] = 1
        out[:, at : at + HEAD] = 0.02 * torch.randn(width, HEAD)
        out[:, at] = torch.randn(width)
    at = HEAD * len(_PLACES)
    attention.to_v.weight[[at, at + 1], [_ACROSS, _DOWN]] = 3
    out[:, at : at + HEAD] = 0.02 * torch.randn(width, HEAD)
    out[:, at : at + 2] = 3 * torch.randn(width, 2)


def _zero(layer: Any) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
