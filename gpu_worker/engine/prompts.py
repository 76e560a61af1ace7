"""Prompt embeddings that were made before, in main memory, within a bound; the least used go first."""

from collections import OrderedDict

import torch

MAX_BYTES = 256 << 20
Key = tuple[str, int]


class PromptCache:
    """By prompt and token count. The bound counts bytes: a prompt of the large models is about 2 MB."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._kept: OrderedDict[Key, torch.Tensor] = OrderedDict()
        self._max_bytes = max_bytes
        self.size_bytes = 0

    def get(self, key: Key) -> torch.Tensor | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: Key, embeds: torch.Tensor) -> None:
        self._kept[key] = embeds.cpu()
        self.size_bytes += embeds.nbytes
        while self.size_bytes > self._max_bytes and len(self._kept) > 1:
            self.size_bytes -= self._kept.popitem(last=False)[1].nbytes
