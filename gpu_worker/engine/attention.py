"""Our own attention processor: one matrix for query, key and value, and a kernel of our choice.

The stock processor calls PyTorch directly, so that switching diffusers' attention backend does nothing for this model.
"""

from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import nn

from gpu_worker.engine.kernels import Attend, sdpa

Positions = tuple[torch.Tensor, torch.Tensor]


class FusedAttention:
    """Joint attention over text and video. All blocks share one: `attend` may be changed between renders."""

    def __init__(self, attend: Attend = sdpa) -> None:
        self.attend = attend

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: None = None,
        image_rotary_emb: Positions | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        text = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        return give(attn, self.attend_all(*project(attn, tokens, image_rotary_emb, text), text), text)

    def attend_all(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, text: int) -> torch.Tensor:
        """All tokens to all; the first `text` of them are the words."""
        return self.attend(query, key, value)


def project(
    attn: Any, tokens: torch.Tensor, positions: Positions | None, text: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value, each (batch, heads, tokens, head_dim), the first two normed and turned."""
    batch, count, _ = tokens.shape
    joint = attn.to_qkv(tokens).view(batch, count, 3, attn.heads, -1)
    query, key, value = joint.permute(2, 0, 3, 1, 4).unbind(0)
    if attn.norm_q is not None:
        query, key = attn.norm_q(query), attn.norm_k(key)
    if positions is not None:
        # Of the video's tokens alone, in place; text has none.
        for states in (query, key):
            states[:, :, text:] = apply_rotary_emb(states[:, :, text:], positions)
    return query, key, value


def give(attn: Any, out: torch.Tensor, text: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The heads brought together: video, then text, as a block expects them."""
    joint = attn.to_out[0](out.transpose(1, 2).flatten(2))
    return joint[:, text:], joint[:, :text]


def install(transformer: Any, processor: Any) -> None:
    """Fuse the projections of every block and attend by `processor`. The three old matrices are freed."""
    for block in transformer.transformer_blocks:
        _fuse(block.attn1)
        block.attn1.set_processor(processor)


def _fuse(attn: Any) -> None:
    if hasattr(attn, "to_qkv"):
        return
    parts = [attn.to_q, attn.to_k, attn.to_v]
    weight = torch.cat([part.weight.data for part in parts])
    with torch.device("meta"):
        fused = nn.Linear(weight.shape[1], weight.shape[0], bias=parts[0].bias is not None)
    fused.weight = nn.Parameter(weight, requires_grad=False)
    if parts[0].bias is not None:
        fused.bias = nn.Parameter(torch.cat([part.bias.data for part in parts]), requires_grad=False)
    attn.to_qkv = fused
    # One block at a time, so that the weights are never held twice as a whole.
    del attn.to_q, attn.to_k, attn.to_v
