"""Several devices for one clip: who computes what, and how tensors pass between them.

The two branches of guidance go to two halves of the ranks; within a half the video tokens are shared out, and for each
attention the shares are exchanged for heads (Ulysses). The first rank leads: the others follow what it says.
"""

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

# A follower waits for the next clip in a collective, for days if need be; the leader watches that all are alive.
FOREVER = datetime.timedelta(days=365)


class UnshareableModel(ValueError):
    """The model's heads cannot be shared out evenly over so many devices."""


@dataclass(frozen=True)
class Ranks:
    rank: int
    world: int
    branches: int
    """2 when each half has one branch of guidance, else 1."""

    tokens: Any
    """The group that shares the tokens of one branch."""

    guidance: Any
    """The group of those with the same share, one of each branch."""

    words: Any
    """All, on the CPU: what is said there keeps no device busy while it is waited for."""

    @property
    def sharers(self) -> int:
        return self.world // self.branches

    @property
    def branch(self) -> int:
        return self.rank // self.sharers

    @property
    def share(self) -> int:
        return self.rank % self.sharers

    def share_of(self, length: int) -> slice:
        bounds = bounds_of(length, self.sharers)
        return slice(bounds[self.share], bounds[self.share + 1])

    def check(self, heads: int) -> None:
        if heads % self.sharers:
            raise UnshareableModel(f"{heads} heads over {self.sharers} devices")

    def agree(self, sums: torch.Tensor) -> torch.Tensor:
        """The sum over all, so that all decide alike."""
        total = sums.cpu()
        dist.all_reduce(total, group=self.words)
        return total

    def both_branches(self, prediction: torch.Tensor) -> list[torch.Tensor]:
        return _gathered(prediction, self.guidance, self.branches)

    def whole(self, share: torch.Tensor, length: int) -> torch.Tensor:
        """All tokens from everybody's shares."""
        sizes = sizes_of(length, self.sharers)
        padded = share.new_zeros((share.shape[0], max(sizes), *share.shape[2:]))
        padded[:, : share.shape[1]] = share
        parts = _gathered(padded, self.tokens, self.sharers)
        return torch.cat([part[:, :size] for part, size in zip(parts, sizes, strict=True)], dim=1)

    def heads_for_tokens(self, states: torch.Tensor, length: int) -> torch.Tensor:
        """(…, all heads, own tokens, dim) becomes (…, own heads, all tokens, dim)."""
        heads = states.shape[-3] // self.sharers
        parts = list(states.chunk(self.sharers, dim=-3))
        shape = (*states.shape[:-3], heads)
        sizes = [(*shape, size, states.shape[-1]) for size in sizes_of(length, self.sharers)]
        return torch.cat(_exchange(parts, sizes, self.tokens), dim=-2)

    def tokens_for_heads(self, states: torch.Tensor) -> torch.Tensor:
        """The way back."""
        sizes = sizes_of(states.shape[-2], self.sharers)
        shape = (*states.shape[:-2], sizes[self.share], states.shape[-1])
        return torch.cat(
            _exchange(list(torch.split(states, sizes, dim=-2)), [shape] * self.sharers, self.tokens), dim=-3
        )

    def own_heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.chunk(self.sharers, dim=-3)[self.share]

    def all_heads(self, states: torch.Tensor) -> torch.Tensor:
        return torch.cat(_gathered(states, self.tokens, self.sharers), dim=-3)

    def say(self, words: dict[str, Any]) -> None:
        """From the leader to all."""
        body = torch.frombuffer(bytearray(json.dumps(words).encode()), dtype=torch.uint8)
        dist.broadcast(torch.tensor([len(body)]), 0, group=self.words)
        dist.broadcast(body, 0, group=self.words)

    def hear(self) -> dict[str, Any]:
        length = torch.zeros(1, dtype=torch.int64)
        dist.broadcast(length, 0, group=self.words)
        body = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(body, 0, group=self.words)
        heard: dict[str, Any] = json.loads(bytes(body.tolist()))
        return heard

    def pass_on(self, tensor: torch.Tensor) -> torch.Tensor:
        """The leader's tensor, at all; the others give one of the same shape and type."""
        tensor = tensor.contiguous()
        dist.broadcast(tensor, 0)
        return tensor


def join(rank: int, world: int, meeting: Path, device: torch.device, branches: int = 0) -> Ranks:
    """Meet the others at a file in a private folder. Guidance is split if the count is even, unless `branches` says."""
    # Neither the host's name nor other networks: all ranks are on this machine.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=world, timeout=FOREVER)
    branches = branches or (2 if world % 2 == 0 else 1)
    sharers = world // branches
    tokens = [dist.new_group(list(range(b * sharers, (b + 1) * sharers)), timeout=FOREVER) for b in range(branches)]
    guidance = [dist.new_group(list(range(s, world, sharers)), timeout=FOREVER) for s in range(sharers)]
    words = dist.new_group(backend="gloo", timeout=FOREVER)
    return Ranks(rank, world, branches, tokens[rank // sharers], guidance[rank % sharers], words)


def bounds_of(length: int, count: int) -> list[int]:
    return [length * part // count for part in range(count + 1)]


def sizes_of(length: int, count: int) -> list[int]:
    return [end - start for start, end in pairwise(bounds_of(length, count))]


def _gathered(tensor: torch.Tensor, group: Any, count: int) -> list[torch.Tensor]:
    if count == 1:
        return [tensor]
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(count)]
    dist.all_gather(parts, tensor.contiguous(), group=group)
    return parts


def _exchange(parts: Sequence[torch.Tensor], shapes: Sequence[tuple[int, ...]], group: Any) -> list[torch.Tensor]:
    """Part i goes to i; what comes from i has shape i."""
    if len(parts) == 1:
        return list(parts)
    sent = torch.cat([part.reshape(-1) for part in parts])
    counts = [torch.Size(shape).numel() for shape in shapes]
    got = sent.new_empty(sum(counts))
    dist.all_to_all_single(got, sent, counts, [part.numel() for part in parts], group=group)
    return [part.view(shape) for part, shape in zip(torch.split(got, counts), shapes, strict=True)]
