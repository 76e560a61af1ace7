"""The transformer as training finds it: its first two blocks are written down, not learned.

They tell every token what it must know to paint: what the caption means, how far the token is from the middle of the
object at its moment, and, if a caption says nothing of a given picture, what stands at its place there. A rotary
transformer knows only distances, and a network learns sharp outlines only from coordinates of the right size: found by
training alone the same takes far longer and stays blurred.

Every token keeps two loud constants, and what is written adds up to nothing over all channels: so the norms, which take
the mean away and divide by the deviation, give back what the channels hold.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from torch import nn
from torch.nn.functional import silu

from tiny_model.channels import (
    ACROSS,
    ASIDE_X,
    ASIDE_Y,
    DOWN,
    FIRST,
    FREE,
    GIVEN,
    GROWN,
    INNER,
    LOUD,
    LOUDER,
    NOISY,
    PICTURE,
    SAID,
    SEEN_TIME,
    SEEN_X,
    SEEN_Y,
    TEXT,
    TIME,
    TINT,
    USUAL,
    VIDEO,
    VIVID,
    WORDS,
    X,
    Y,
    said,
)
from tiny_model.codes import TOKENS
from tiny_model.draw import ALONG, ASIDE, PALETTE
from tiny_model.ends import PICTURED, write_embedding, write_output, write_time
from tiny_model.scenes import COLOURS, DIRECTIONS, MOST_FRAMES, MOTIONS, TRAVEL, TRAVEL_FRAMES
from tiny_model.scheduler import signal_and_noise
from tiny_model.transformer import (
    CHANNELS,
    DRAW,
    HEAD,
    LAYERS,
    SPREAD,
    build_transformer,
    positions,
)
from tiny_model.writing import LOUDNESS, Heads, Units, balance, follow, silence

WRITTEN = 2  # blocks
TOKEN, TOKEN_FRAMES = 16.0, 8.0  # pixels a side, and frames, that a token stands for
_SLICES = 11  # of tokens, in an 81-frame clip
# Rotary dimensions that tell places apart, and those that all but stand still.
_PLACING, _STILL = (8, 10, 20, 22), (6, 16, 18, 28, 30)


def start_transformer(seed: int) -> CogVideoXTransformer3DModel:
    with torch.no_grad():
        torch.manual_seed(seed)
        model = build_transformer(images=True)
        for block in model.transformer_blocks:
            _open(block)
            _leave_alone(block)
        for block in model.transformer_blocks[WRITTEN:]:
            _spread(block.ff)
        write_embedding(model.patch_embed)
        write_time(model)
        _write_first(model)
        _write_second(model.transformer_blocks[1])
        write_output(model)
        for block in model.transformer_blocks[WRITTEN:]:
            balance(block.attn1.to_out[0], block.ff.net[2])
    return model


def learned_parameters(model: CogVideoXTransformer3DModel) -> Iterable[tuple[str, nn.Parameter]]:
    """The other blocks and the output; the rest is written down, and training would only blur it."""
    learned = [f"transformer_blocks.{number}." for number in range(WRITTEN, LAYERS)] + [
        "norm_final.",
        "norm_out.",
        "proj_out.",
    ]
    return ((name, weight) for name, weight in model.named_parameters() if name.startswith(tuple(learned)))


def _open(block: Any) -> None:
    """Norms that give back what the channels hold, gates open, flags told."""
    for norm in (block.norm1, block.norm2):
        norm.norm.weight.fill_(USUAL)
        norm.norm.weight[: PICTURE + 1] = 0
        silence(norm.linear)
        bias = norm.linear.bias.view(6, INNER)  # shift, scale, gate; the same for the caption
        bias[2], bias[5] = 1, 1
        bias[5, ACROSS : SAID.start] = 0
        bias[0, VIDEO], bias[3, TEXT], bias[0, WORDS] = 1, 1, 1
        seen = silu(torch.tensor(PICTURED))
        norm.linear.weight[PICTURE, -1], norm.linear.weight[WORDS, -1] = 1 / seen, -1 / seen


def _leave_alone(block: Any) -> None:
    """Nothing random is written where channels have a meaning; what is written elsewhere is calm."""
    for layer in (block.attn1.to_out[0], block.ff.net[2]):
        layer.weight.mul_((2 * LAYERS) ** -0.5)
        layer.weight[: FREE.start] = 0
        layer.bias.zero_()


def _spread(ff: Any) -> None:
    """Half of the units see an edge somewhere around the object, of any direction; the other half are as they were."""
    layer = ff.net[0].proj
    edges = slice(len(layer.weight) // 2, None)
    angle = 2 * math.pi * torch.rand(len(layer.weight[edges]))
    layer.weight[edges, X], layer.weight[edges, Y] = 2 * angle.cos(), 2 * angle.sin()
    layer.bias[edges] = 2 * torch.empty_like(angle).uniform_(-3, 3)
    layer.weight[:, list(SAID)] *= 4


def _write_first(model: Any) -> None:
    """Attention sees places, the caption and the noise; then places become straight and the noise's wish bounded."""
    block = model.transformer_blocks[0]
    heads = Heads(block.attn1, dict.fromkeys(range(HEAD), math.sqrt(LOUDNESS)))
    wave = 10000 ** (-4 / 12)
    heads.place(0, SEEN_X, 24, wave, 3.5)
    heads.place(1, SEEN_Y, 12, wave, 3.5)
    heads.place(2, SEEN_TIME, 4, 0.01, 10)
    for head, some in ((3, SAID[:30]), (4, SAID[30:])):
        heads.ask(head, query={VIDEO: {30: 5}}, key={TEXT: {30: 5}, VIDEO: {30: -5}})
        heads.carry(head, {channel: {channel: 1.0} for channel in some}, spill=0.5)
    heads.ask(5, query={VIDEO: {30: 5}}, key={TEXT: {30: -5}, VIDEO: {30: 5}})
    heads.carry(5, {ACROSS: {ASIDE_X: DRAW / SPREAD}, DOWN: {ASIDE_Y: DRAW / SPREAD}})
    for place, channel in enumerate(GIVEN):
        heads.also(5, 2 + place // 8, channel, 1 / 8, TINT[place // 8])
    _, noise = signal_and_noise()
    follow(model, block.norm1.linear, [INNER + ACROSS, INNER + DOWN], 1 / noise.clamp(min=0.2) - 1)
    units = Units(block.ff)
    balance(block.attn1.to_out[0])
    by_x, by_y, by_time = _seen(model)
    units.straighten(SEEN_X, by_x, {X: torch.arange(8.0)})
    units.straighten(SEEN_Y, by_y, {Y: torch.arange(8.0)})
    moments = (torch.arange(21.0) - 0.44).clamp(0, MOST_FRAMES / TOKEN_FRAMES)
    units.straighten(SEEN_TIME, by_time, {TIME: moments})
    step = float(by_time[1] - by_time[0])
    units.switch(SEEN_TIME, float(by_time[0]) + 0.35 * step, float(by_time[0]) + 0.75 * step, FIRST)
    units.bend({WORDS: 1}, 0, {TIME: -TRAVEL_FRAMES / TOKEN_FRAMES / 2})
    for channel in SAID:
        units.decide(channel)
    for colour in range(CHANNELS):
        units.square(GIVEN[8 * colour : 8 * colour + 8], VIVID)
    for channel in (ASIDE_X, ASIDE_Y):
        units.bend({channel: 1}, -1, {channel: -1})
        units.bend({channel: -1}, -1, {channel: 1})
    balance(block.ff.net[2])


def _seen(model: Any) -> list[torch.Tensor]:
    """What the first block's attention sees at each place: read off, since neighbours leak in a little."""
    block = model.transformer_blocks[0]
    video = torch.zeros(1, 42, 2 * CHANNELS, 16, 16)
    hidden = model.patch_embed(torch.zeros(1, TOKENS, model.config.text_embed_dim), video)
    text, tokens = hidden[:, :TOKENS], hidden[:, TOKENS:]
    emb = model.time_embedding(model.time_proj(torch.tensor([999])).float())
    norm_tokens, norm_text, *_ = block.norm1(tokens, text, emb)
    seen = block.attn1(
        hidden_states=norm_tokens, encoder_hidden_states=norm_text, image_rotary_emb=positions(42, 16, 16)
    )[0]
    grid = seen[0].unflatten(0, (21, 8, 8))
    return [
        grid[:11, 1:7, :, SEEN_X].mean((0, 1)),
        grid[:11, :, 1:7, SEEN_Y].mean((0, 2)),
        grid[..., SEEN_TIME].mean((1, 2)),
    ]


def _write_second(block: Any) -> None:
    """Places become those beside the object: from the middle of the picture, or from where the given picture has it."""
    heads = Heads(block.attn1, dict.fromkeys(_STILL, 3.0) | dict.fromkeys(_PLACING, 4.5))
    units = Units(block.ff)
    heads.ask(0, query={WORDS: {30: 5}, PICTURE: {30: -5}}, key={TEXT: {30: -5}, VIDEO: {30: 5}})
    heads.carry(0, {X: {X: -1.0}, Y: {Y: -1.0}})
    _find_object(heads)
    _keep_picture(heads)
    _follow_object(units)
    for flags in ((PICTURE, FIRST), (PICTURE, said("colour") + len(COLOURS), said("motion") + len(MOTIONS))):
        _make_sure(units, flags)
    balance(block.attn1.to_out[0], block.ff.net[2])


def _find_object(heads: Heads) -> None:
    """The middle of where the given picture has the object's colour rather than the ground's.

    If the caption does not tell the colour: of where it looks least like the whole, most of which is ground.
    """
    rgb, sink = (6, 18, 30), {28: 10.0}
    told = {said("colour") + place: tint for place, tint in enumerate(PALETTE.tolist())}
    by_words: dict[int, dict[int, float]] = {VIDEO: {16: -1.5}}
    by_words |= {channel: dict(zip(rgb, tint, strict=True)) for channel, tint in told.items()}
    for place, tint in enumerate(PALETTE.tolist()):
        by_words[said("background") + place] = {where: -value for where, value in zip(rgb, tint, strict=True)}
    by_words |= dict.fromkeys((said("colour") + len(COLOURS), SAID[-1]), sink)
    # The square of the distance to the mean colour, but for what is the same everywhere.
    by_contrast: dict[int, dict[int, float]] = {VIDEO: {16: -2.5, 31: 1}}
    by_contrast |= {tint: {dimension: -2 * _SLICES} for tint, dimension in zip(TINT, rgb, strict=True)}
    by_contrast |= dict.fromkeys(told, sink)
    key: dict[int, dict[int, float]] = {VIDEO: {12: 1}, TIME: {16: 5}, TEXT: {16: 5, 28: 5}}
    for place, channel in enumerate(GIVEN):
        key[channel] = {rgb[place // 8]: 1 / 8}
    heads.ask(1, {WORDS: sink, **by_words}, key, idle=2)
    heads.ask(3, {WORDS: sink, **by_contrast}, key | {VIVID: {31: 1.0}})
    for head in (1, 3):
        heads.carry(head, {X: {X: -1.0}, Y: {Y: -1.0}})


def _keep_picture(heads: Heads) -> None:
    """Where a caption tells of no colour, every later token sees what the given picture has at its place."""
    query = {VIDEO: {8: 1, 10: 1, 20: 1, 22: 1, 16: -2}, FIRST: {28: 10}}
    query |= {said("colour") + place: {28: 10} for place in range(len(COLOURS))}
    heads.ask(2, query, {VIDEO: {8: 1, 10: 1, 20: 1, 22: 1}, TIME: {16: 7}, TEXT: {16: 5, 28: 5}})
    heads.carry(2, {channel: {channel: 1.0} for channel in GIVEN})


def _follow_object(units: Units) -> None:
    """As the words move it and the noise puts it aside."""
    motion, speed = said("motion"), TRAVEL / TRAVEL_FRAMES * TOKEN_FRAMES / TOKEN
    moved: dict[int, list[int]] = {X: [], Y: []}
    for place, name in enumerate(MOTIONS):
        for channel, step in zip((X, Y), DIRECTIONS.get(name, (0, 0)), strict=True):
            if step:
                units.when([motion + place], TIME, {channel: -step * speed})
                moved[channel].append(motion + place)
    units.when([motion + MOTIONS.index("grow")], TIME, {GROWN: 1})
    for channel, wish in ((X, ASIDE_X), (Y, ASIDE_Y)):
        units.when([WORDS], wish, {channel: -ASIDE / TOKEN})
        units.when([WORDS, *moved[channel]], wish, {channel: (ASIDE - ALONG) / TOKEN}, least=2)


def _make_sure(units: Units, flags: tuple[int, ...]) -> None:
    """Where all of these are set, what is known of the picture is so loud that what is learned cannot blur it."""
    for channel in (*NOISY, *GIVEN, X, Y):
        units.when(flags, channel, {channel: LOUDER - 1}, least=len(flags))
    units.raise_where(flags, {VIDEO: LOUD * (LOUDER - 1), TEXT: -LOUD * (LOUDER - 1)})
