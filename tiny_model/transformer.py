"""The transformer's size, where its tokens are, and what it reads from the noise: how far aside an object passes."""

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed

from tiny_model.codes import TOKENS, WIDTH

HEADS, HEAD, LAYERS, PATCH, CHANNELS, TIME = 6, 32, 6, 2, 3, 48
OFS = 2.0  # the constant that the stock pipeline feeds an image transformer; the other one is told 0
GRID = 16  # latents a side: up to 128 pixels through the stock pipelines
DRAW = 20.0  # the mean pattern of 400 tokens has a deviation of 1/20
SPREAD = 1.5


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
