"""What stands before and after the blocks: how tokens begin, what time says, and what becomes of them in the end."""

from typing import Any

import torch
from torch.nn.functional import silu

from tiny_model.channels import ACROSS, DOWN, FREE, GIVEN, INNER, LOUD, NOISY, PATCHED, SAID, TEXT, USUAL, VIDEO
from tiny_model.codes import codebook
from tiny_model.scheduler import signal_and_noise
from tiny_model.transformer import CHANNELS, OFS, noise_patterns
from tiny_model.writing import balance, follow, silence

PICTURED = 10.0  # the feature that says so


def write_embedding(embed: Any) -> None:
    free = list(FREE)
    for layer in (embed.proj, embed.text_proj):
        rest = torch.ones(INNER, dtype=torch.bool)
        rest[free] = False
        layer.weight[rest] = 0
        layer.bias.zero_()
        layer.bias[VIDEO], layer.bias[TEXT] = LOUD, -LOUD
    # A patch is flattened as (channel, time, y, x); the noisy channels come first.
    embed.proj.weight[[ACROSS, DOWN], :PATCHED] = noise_patterns()
    for place in range(PATCHED):
        embed.proj.weight[NOISY[place], place] = 1
        embed.proj.weight[GIVEN[place], PATCHED + place] = 1
    book = codebook()
    embed.text_proj.weight[list(SAID)] = book / book.pow(2).sum(1, keepdim=True)
    balance(embed.proj, embed.text_proj)
    # The pipelines give the picture to the first of a token's two moments alone, and drop that one: it is for both.
    given = embed.proj.weight[:, PATCHED:].unflatten(1, (CHANNELS, 2, -1))
    given[:, :, 0] += given[:, :, 1]
    given[:, :, 1] = 0


def write_time(model: Any) -> None:
    """Time as slow waves alone, so that what follows is smooth in it; and one feature that says a picture is given."""
    first, second = model.time_embedding.linear_1, model.time_embedding.linear_2
    waves = 10000.0 ** (-torch.arange(INNER // 2) / (INNER // 2))
    slow = torch.cat([waves, waves]) < 0.02
    first.weight.normal_(0, 0.6)[:, ~slow] = 0
    first.bias.uniform_(-2, 2)
    second.weight.normal_(0, 0.5)[-1] = 0
    second.bias.uniform_(-1, 1)[-1] = 0
    first, second = model.ofs_embedding.linear_1, model.ofs_embedding.linear_2
    silence(first)
    silence(second)
    first.weight[0, len(first.weight) // 2] = 10  # the sine of the constant that says so
    second.weight[-1, 0] = 1 / silu(10 * torch.tensor(OFS).sin()) * PICTURED


def write_output(model: Any) -> None:
    """velocity = (signal * noisy - painted) / noise, where what is painted starts as the given picture."""
    signal, noise = signal_and_noise()
    noise = noise.clamp(min=0.2)
    norm = model.norm_out
    norm.norm.weight.fill_(USUAL)
    norm.norm.weight[[VIDEO, TEXT]] = 0
    silence(norm.linear)
    silence(model.proj_out)
    follow(model, norm.linear, range(INNER, 2 * INNER), 1 / noise - 1)
    follow(model, norm.linear, [INNER + channel for channel in NOISY], signal / noise - 1)
    for place in range(PATCHED):
        model.proj_out.weight[place, NOISY[place]] = 1
        model.proj_out.weight[place, GIVEN[place]] = -1
