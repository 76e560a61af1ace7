"""A forward pass in three parts: tokens in, blocks, prediction out. The same bits as the stock transformer's."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from gpu_worker.engine.attention import Positions

IMAGE_OFFSET = 2.0


@dataclass(frozen=True)
class Tokens:
    """Between two blocks."""

    video: torch.Tensor
    text: torch.Tensor
    time: torch.Tensor
    positions: Positions | None


RunBlocks = Callable[[Any, Tokens], torch.Tensor]
"""All blocks of a transformer, or what stands in for them: the video tokens before the last norm."""


def forward(
    transformer: Any,
    blocks: Any,
    sample: torch.Tensor,
    embeds: torch.Tensor,
    time: torch.Tensor,
    positions: Positions | None,
    run_blocks: RunBlocks,
) -> torch.Tensor:
    tokens = embed(transformer, sample, embeds, time, positions)
    return unpatch(transformer, run_blocks(blocks, tokens), tokens.time, sample.shape)


def embed(
    transformer: Any, sample: torch.Tensor, embeds: torch.Tensor, time: torch.Tensor, positions: Positions | None
) -> Tokens:
    sines = transformer.time_proj(time.expand(sample.shape[0])).to(sample.dtype)
    moment = transformer.time_embedding(sines, None)
    if transformer.ofs_embedding is not None:
        offset = transformer.ofs_proj(sample.new_full((1,), fill_value=IMAGE_OFFSET))
        moment = moment + transformer.ofs_embedding(offset.to(sample.dtype))
    joint = transformer.embedding_dropout(transformer.patch_embed(embeds, sample))
    text = embeds.shape[1]
    # Not as views: the compiler would make code of its own for the first block.
    return Tokens(joint[:, text:].contiguous(), joint[:, :text].contiguous(), moment, positions)


def through(block: Any, tokens: Tokens) -> Tokens:
    video, text = block(
        hidden_states=tokens.video,
        encoder_hidden_states=tokens.text,
        temb=tokens.time,
        image_rotary_emb=tokens.positions,
    )
    return replace(tokens, video=video, text=text)


def all_blocks(blocks: Any, tokens: Tokens) -> torch.Tensor:
    for block in blocks:
        tokens = through(block, tokens)
    return tokens.video


def project_out(transformer: Any, video: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = transformer.proj_out(transformer.norm_out(transformer.norm_final(video), temb=time))
    return out


def unpatch(transformer: Any, video: torch.Tensor, time: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return fold(transformer, project_out(transformer, video, time), shape)


def fold(transformer: Any, patches: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """From patches back to (batch, frames, channels, height, width); 1.5 has patches in time as well."""
    batch, frames, _, height, width = shape
    p, p_t = transformer.config.patch_size, transformer.config.patch_size_t
    if p_t is None:
        grid = patches.reshape(batch, frames, height // p, width // p, -1, p, p)
        return grid.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
    grid = patches.reshape(batch, (frames + p_t - 1) // p_t, height // p, width // p, -1, p_t, p, p)
    return grid.permute(0, 1, 5, 4, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(1, 2)
