"""What the model says about one step: both branches of guidance, combined."""

from dataclasses import dataclass
from typing import Any

import torch

from gpu_worker.engine.attention import Positions
from gpu_worker.engine.cache import FirstBlockCache
from gpu_worker.engine.forward import RunBlocks, all_blocks, forward


@dataclass(frozen=True)
class Conditions:
    """What stays the same through all steps."""

    embeds: torch.Tensor
    """Without the prompt, then with it."""

    positions: Positions | None
    image: torch.Tensor | None
    guidance: float

    def branch(self, index: int) -> torch.Tensor:
        return self.embeds[index : index + 1]

    def beside_image(self, sample: torch.Tensor) -> torch.Tensor:
        return sample if self.image is None else torch.cat([sample, self.image], dim=2)


class Predictor:
    """For one clip. In one batch both branches share their steps' caches; `split` halves the memory instead."""

    def __init__(
        self,
        transformer: Any,
        given: Conditions,
        caches: list[FirstBlockCache] | None = None,
        split: bool = False,
        blocks: Any = None,
        used: dict[str, str] | None = None,
    ) -> None:
        self._transformer, self._given, self._split = transformer, given, split
        self._blocks = transformer.transformer_blocks if blocks is None else blocks
        self._caches = caches or []
        self._used = used or {}
        self._steps = 0

    @property
    def used(self) -> dict[str, str]:
        """What really worked, for the record."""
        skipped = max((cache.skipped for cache in self._caches), default=0)
        return self._used | ({"cache": f"{skipped} of {self._steps} steps"} if self._caches else {})

    def __call__(self, sample: torch.Tensor, time: torch.Tensor, is_last: bool) -> torch.Tensor:
        """The guided prediction, in float32."""
        self.begin_step(is_last)
        seen = self._given.beside_image(sample)
        if self._split:
            without, with_text = (self._forward(seen, self._given.branch(i), time, i).float() for i in (0, 1))
        else:
            both = self._forward(torch.cat([seen] * 2), self._given.embeds, time, 0)
            without, with_text = both.float().chunk(2)
        return combine(without, with_text, self._given.guidance)

    def begin_step(self, is_last: bool) -> None:
        self._steps += 1
        for cache in self._caches:
            cache.is_last_step = is_last

    def _forward(self, seen: torch.Tensor, embeds: torch.Tensor, time: torch.Tensor, branch: int) -> torch.Tensor:
        run: RunBlocks = self._caches[branch] if self._caches else all_blocks
        return forward(self._transformer, self._blocks, seen, embeds, time, self._given.positions, run)


def combine(without: torch.Tensor, with_text: torch.Tensor, guidance: float) -> torch.Tensor:
    return without + guidance * (with_text - without)
