"""A step cache: while the first block says that little has changed, the other blocks' work is taken from before.

The state is dropped with the render, and so at every resume: the next step then runs in full.
"""

from collections.abc import Callable
from typing import Any

import torch

from gpu_worker.engine.forward import Tokens, all_blocks, through

Agree = Callable[[torch.Tensor], torch.Tensor]
"""Sums over all processes of one render, so that all of them skip the same steps."""

FULL_STEPS_AT_START = 2


class FirstBlockCache:
    """For one branch of one render. `threshold` is the relative change of the first block's work that passes unseen."""

    def __init__(self, threshold: float, max_skips: int, agree: Agree | None = None) -> None:
        self._threshold, self._max_skips, self._agree = threshold, max_skips, agree
        self._change: torch.Tensor | None = None
        self._rest: torch.Tensor | None = None
        self._run = self._in_a_row = 0
        self.is_last_step = False
        self.skipped = 0

    def __call__(self, blocks: Any, tokens: Tokens) -> torch.Tensor:
        rest = iter(blocks)
        first = through(next(rest), tokens)
        change = first.video - tokens.video
        self._run += 1
        if self._change is not None and self._rest is not None and self._may_skip(change, self._change):
            self._in_a_row += 1
            self.skipped += 1
            return first.video + self._rest
        video = all_blocks(rest, first)
        self._change, self._rest, self._in_a_row = change, video - first.video, 0
        return video

    def _may_skip(self, change: torch.Tensor, before: torch.Tensor) -> bool:
        """Never at the start, where the picture is laid out, nor at the end, where nothing would mend it."""
        if self._run <= FULL_STEPS_AT_START or self.is_last_step or self._in_a_row >= self._max_skips:
            return False
        sums = torch.stack([part.abs().sum(dtype=torch.float32) for part in (change - before, before)]).double()
        moved, size = (self._agree(sums) if self._agree else sums).tolist()
        return bool(moved < self._threshold * size)
