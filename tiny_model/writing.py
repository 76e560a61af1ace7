"""How weights are written by hand: attention heads, feed-forward units, and what follows time."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import silu

from tiny_model.channels import FREE, TEXT, VIDEO
from tiny_model.codes import TOKENS
from tiny_model.transformer import HEAD

LOUDNESS = 40.0  # of the heads that see places
_OPEN, _SHUT = 16.0, 20.0  # gates
# Rotary dimensions: pairs for time 0-7, height 8-19, width 20-31, each from fast to all but standing still.
# How much each says that a token is the same one; the sign is for the sake of the mean, which norms take away.
_SELF = {0: 12.0, 2: -30.0, 8: 10.0, 10: -10.0, 20: 10.0, 22: -10.0}
_UNHEARD_QUERIES, _UNHEARD_KEYS = (14, 26), (17, 29)


class Heads:
    """Writes attention heads: who asks whom, and what is carried."""

    def __init__(self, attention: Any, loudness: Mapping[int, float]) -> None:
        self._attention = attention
        for layer in (attention.to_q, attention.to_k, attention.to_v):
            nn.init.zeros_(layer.bias)
        for norm in (attention.norm_q, attention.norm_k):
            for dimension, loud in loudness.items():
                norm.weight[dimension] = loud

    def ask(
        self,
        head: int,
        query: Mapping[int, Mapping[int, float]],
        key: Mapping[int, Mapping[int, float]],
        idle: float = 0.0,
    ) -> None:
        """Weights by channel and dimension; `idle` makes the question softer. Where nobody hears, means are undone."""
        at = slice(HEAD * head, HEAD * (head + 1))
        sides = (self._attention.to_q, query, _UNHEARD_QUERIES), (self._attention.to_k, key, _UNHEARD_KEYS)
        for layer, wanted, unheard in sides:
            layer.weight[at] = 0
            for channel, entries in wanted.items():
                for dimension, value in entries.items():
                    layer.weight[at.start + dimension, channel] += value
                layer.weight[at.start + unheard[0], channel] -= sum(entries.values())
        for dimension, share in zip(_UNHEARD_QUERIES, (idle, -idle), strict=True):
            self._attention.to_q.weight[at.start + dimension, VIDEO] += share

    def carry(self, head: int, what: Mapping[int, Mapping[int, float]], spill: float = 0.0) -> None:
        """From the channels that are read to those that are written; also anywhere, if it may be of use."""
        at = HEAD * head
        value, out = self._attention.to_v.weight, self._attention.to_out[0].weight
        value[at : at + HEAD] = 0
        out[:, at : at + HEAD] = 0
        for place, (source, targets) in enumerate(what.items()):
            value[at + place, source] = 1
            for target, weight in targets.items():
                out[target, at + place] = weight
            if spill:
                out[list(FREE), at + place] = spill * torch.randn(len(FREE))

    def also(self, head: int, place: int, source: int, weight: float, target: int) -> None:
        """One more share of what a place in the head carries."""
        self._attention.to_v.weight[HEAD * head + place, source] = weight
        self._attention.to_out[0].weight[target, HEAD * head + place] = 1

    def place(self, head: int, seen: int, dimension: int, wave: float, middle: float) -> None:
        """A token weighs the caption, whose words stand at the origin, against itself: more the farther it is."""
        _write_place(self._attention, head, dimension, wave, middle)
        self.carry(head, {TEXT: {seen: 1.0}})


def _write_place(attention: Any, head: int, dimension: int, wave: float, middle: float) -> None:
    steep, own = 14.0, sum(map(abs, _SELF.values()))
    loud = LOUDNESS / math.sqrt(HEAD)
    # Both sides of the scale as loud: the caption's constant part equals a token's attention to itself.
    still, turned, share = 3.5, 2.0, math.sqrt(28 / own)
    video = {where: math.copysign(share * math.sqrt(abs(weight)), weight) for where, weight in _SELF.items()}
    query = {where: abs(weight) / video[where] / loud for where, weight in _SELF.items()}
    query[30] = (own - math.log(TOKENS)) / still / loud
    strength = steep / turned / loud
    query[dimension], query[dimension + 1] = -strength * math.sin(wave * middle), -strength * math.cos(wave * middle)
    text = {30: still, dimension: turned}
    at = HEAD * head
    for layer, channel, entries, unheard in (
        (attention.to_q, VIDEO, query, _UNHEARD_QUERIES),
        (attention.to_k, VIDEO, video, _UNHEARD_KEYS),
        (attention.to_k, TEXT, text, _UNHEARD_KEYS),
    ):
        if channel == VIDEO:
            layer.weight[at : at + HEAD] = 0
        for where, value in _balanced(entries, unheard).items():
            layer.weight[at + where, channel] = value


def _balanced(entries: dict[int, float], unheard: tuple[int, int]) -> dict[int, float]:
    """Of mean 0 and length √HEAD, so that the norm changes nothing."""
    total, left = sum(entries.values()), HEAD - sum(value**2 for value in entries.values())
    # a + b = -total, a² + b² = left
    root = math.sqrt(2 * left - total**2)
    high, low = (-total + root) / 2, (-total - root) / 2
    return {**entries, unheard[0]: high, unheard[1]: low}


class Units:
    """Writes units of a feed-forward layer, from its first one on."""

    def __init__(self, ff: Any) -> None:
        self._read, self._write, self._next = ff.net[0].proj, ff.net[2], 0

    def bend(self, channels: Mapping[int, float], start: float, out: Mapping[int, float], gain: float = 20.0) -> None:
        """max(0, channels + start), all but for the smallest."""
        self._unit({channel: gain * weight for channel, weight in channels.items()}, gain * start, out, gain)

    def decide(self, channel: int) -> None:
        """Nearer to one or to nothing: exactly that."""
        for sign in (1, -1):
            self.bend({channel: sign}, 0, {channel: -sign})
        for step, sign in ((1.5, 1), (2.5, -1)):
            self.bend({channel: 4}, -step, {channel: sign})

    def when(self, flags: Sequence[int], channel: int, out: Mapping[int, float], least: int = 1) -> None:
        """The channel where so many of the flags are set: gelu(open + a) - gelu(open - a) is twice a."""
        bias = _OPEN - (_OPEN + _SHUT) * least
        for sign in (1.0, -1.0):
            reads = dict.fromkeys(flags, _OPEN + _SHUT) | {channel: sign}
            self._unit(reads, bias, {where: sign * weight for where, weight in out.items()}, 2.0)

    def raise_where(self, flags: Sequence[int], out: Mapping[int, float]) -> None:
        """Constants, where all of the flags are set."""
        bias = _OPEN - (_OPEN + _SHUT) * len(flags)
        self._unit(dict.fromkeys(flags, _OPEN + _SHUT), bias, out, _OPEN)

    def switch(self, channel: int, on_below: float, off_above: float, out: int) -> None:
        """One below, nothing above."""
        for start, sign in ((off_above, 1), (on_below, -1)):
            self.bend({channel: -1}, start, {out: sign / (off_above - on_below)}, gain=1000.0)

    def square(self, channels: Sequence[int], out: int, knots: int = 4) -> None:
        """Of the channels' mean, from -1 to 1, in straight pieces."""
        for sign in (1, -1):
            reads = dict.fromkeys(channels, sign / len(channels))
            for knot in range(knots):
                self.bend(reads, -knot / knots, {out: (1 if knot == 0 else 2) / knots})

    def straighten(self, channel: int, seen: torch.Tensor, wanted: Mapping[int, torch.Tensor]) -> None:
        """Piecewise linear through these points."""
        slopes = {where: (values[1:] - values[:-1]) / (seen[1:] - seen[:-1]) for where, values in wanted.items()}
        for where, values in wanted.items():
            self._write.bias[where] += values[0]
        for knot, at in enumerate(seen[:-1].tolist()):
            turns = {where: float(slope[knot] - (slope[knot - 1] if knot else 0)) for where, slope in slopes.items()}
            self.bend({channel: 1}, -at, turns, gain=200.0)

    def _unit(self, reads: Mapping[int, float], bias: float, out: Mapping[int, float], gain: float) -> None:
        self._read.weight[self._next] = 0
        self._read.bias[self._next] = bias
        for channel, weight in reads.items():
            self._read.weight[self._next, channel] = weight
        self._write.weight[:, self._next] = 0
        for channel, weight in out.items():
            self._write.weight[channel, self._next] = weight / gain
        self._next += 1


def balance(*layers: Any) -> None:
    """The free channels among themselves; what remains, both loud channels take, which leaves the deviation."""
    free = list(FREE)
    for layer in layers:
        layer.weight[free] -= layer.weight[free].mean(0)
        layer.weight[[VIDEO, TEXT]] -= layer.weight.sum(0) / 2
        layer.bias[[VIDEO, TEXT]] -= layer.bias.sum() / 2


def silence(layer: Any) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _features(model: Any, time: torch.Tensor) -> torch.Tensor:
    """What the norms' modulation is linear in, without a picture."""
    found = silu(model.time_embedding(model.time_proj(time).float())).double()
    found[:, -1] = 0
    return torch.cat([found, torch.ones(len(time), 1).double()], 1)


def follow(model: Any, layer: nn.Linear, rows: Iterable[int], of_time: torch.Tensor) -> None:
    """Let these outputs of a modulation be this function of time."""
    features = _features(model, torch.arange(1000))
    ridge = 1e-7 * torch.eye(features.shape[1]).double()
    fit = torch.linalg.solve(features.T @ features / 1000 + ridge, features.T @ of_time.double() / 1000).float()
    layer.weight[list(rows)] = fit[:-1]
    layer.bias[list(rows)] = fit[-1]
