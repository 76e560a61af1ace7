"""To begin from an older model of the same structure, instead of from nothing.

Its first layer is turned to our codes: a linear map from what a caption means to what its text encoder said. One head
of the first block, and four channels, are given to the noise: where an object starts is drawn from it.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from safetensors.torch import load_file
from transformers import AutoTokenizer, T5EncoderModel

from tiny_model.captions import plain
from tiny_model.codes import COUNTS, TOKENS, codebook
from tiny_model.draw import trained_scenes
from tiny_model.train_text import told
from tiny_model.transformer import CHANNELS, HEAD, HEADS, build_transformer, noise_patterns

CAPTIONS, TOGETHER = 1500, 100
_EARS = (100, 101, 102, 103)  # residual channels whose loss hardly shows


@torch.no_grad()
def start_from(pipeline: Path) -> CogVideoXTransformer3DModel:
    """An image transformer with that pipeline's weights, which understands the codes."""
    torch.manual_seed(7)
    file = pipeline / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = {name: value.float() for name, value in load_file(file).items()}
    turn, usual = _old_words(pipeline)
    old = weights["patch_embed.text_proj.weight"]
    weights["patch_embed.text_proj.weight"] = old @ turn
    weights["patch_embed.text_proj.bias"] += old @ usual
    model = build_transformer(images=True)
    model.load_state_dict(weights)
    _listen_to_the_noise(model)
    return model


def _old_words(pipeline: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrix from codes to the old text encoder's mean token, and the token for a caption that says nothing."""
    scenes = torch.stack(list(vars(trained_scenes(CAPTIONS, torch.Generator().manual_seed(1))).values()), 1)
    encoder = T5EncoderModel.from_pretrained(pipeline / "text_encoder", torch_dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(pipeline / "tokenizer")
    said = []
    for place, some in enumerate(scenes.split(TOGETHER)):
        captions = [plain(told(scene), ("zh", "en")[place % 2]) for scene in some.tolist()]
        said.append(_mean_token(encoder, tokenizer, captions))
    vectors, usual = _by_value(scenes, torch.cat(said))
    book = codebook()
    known, empty = book[: sum(COUNTS)], book[-1]
    turn = vectors.T @ (known / known.pow(2).sum(1, keepdim=True))
    turn += torch.outer(_mean_token(encoder, tokenizer, [""])[0] - usual, empty / empty.pow(2).sum())
    return turn, usual


def _mean_token(encoder: Any, tokenizer: Any, captions: list[str]) -> torch.Tensor:
    ids = tokenizer(captions, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids
    mean: torch.Tensor = encoder(ids)[0].mean(1)
    return mean


def _by_value(scenes: torch.Tensor, said: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What every value adds to the usual token; values of an attribute add nothing together, an unsaid one nothing."""
    offsets = torch.tensor([sum(COUNTS[:place]) for place in range(len(COUNTS))])
    shown = torch.zeros(len(scenes), sum(COUNTS) + 1)
    shown.scatter_(1, scenes + offsets, 1.0)
    shown[:, -1] = 1
    fit = torch.linalg.lstsq(shown.double(), said.double(), driver="gelsd").solution.float()
    vectors, usual = fit[:-1], fit[-1]
    for first, count in zip(offsets.tolist(), COUNTS, strict=True):
        mean = vectors[first : first + count - 1].mean(0)
        vectors[first : first + count - 1] -= mean
        vectors[first + count - 1] = 0
        usual = usual + mean
    return vectors, usual


def _listen_to_the_noise(model: CogVideoXTransformer3DModel) -> None:
    """The first head averages two patterns of the noise over all tokens: each as a difference of two channels."""
    embed, block, width = model.patch_embed, model.transformer_blocks[0], HEADS * HEAD
    norm, attention = block.norm1, block.attn1
    for place, channel in enumerate(_EARS):
        for layer in (embed.proj, embed.text_proj):
            layer.weight[channel] = 0
            layer.bias[channel] = 0
        embed.proj.weight[channel, : CHANNELS * 8] = (0.5, -0.5)[place % 2] * noise_patterns()[place // 2]
        norm.norm.weight[channel], norm.norm.bias[channel] = 1, 0
        for part in (0, 1, 3, 4):
            norm.linear.weight[part * width + channel] = 0
            norm.linear.bias[part * width + channel] = 0
    for layer in (attention.to_q, attention.to_k, attention.to_v):
        layer.weight[:HEAD] = 0
        layer.bias[:HEAD] = 0
    for place, channel in enumerate(_EARS):
        attention.to_v.weight[place // 2, channel] = (3, -3)[place % 2]
    out = attention.to_out[0].weight
    out[:, :HEAD] = 0.02 * torch.randn(width, HEAD)
    out[:, :2] = torch.randn(width, 2)
