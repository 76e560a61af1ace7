"""Parts that live in main memory and visit the device: as a whole, or block after block."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

Home = list[tuple[dict[str, Any], str, Any]]


@contextlib.contextmanager
def visiting(module: Any, device: torch.device) -> Iterator[Any]:
    """The module on the device; afterwards it has its home tensors back, which nothing was copied into."""
    home = _tensors(module)
    try:
        for holder, name, tensor in home:
            holder[name] = _on(tensor, device)
        yield module
    finally:
        _back(home)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def settle(module: Any, device: torch.device) -> None:
    """Make this the module's home; in main memory the pages are pinned, so that copies run beside the work."""
    module.to(device)
    if device.type == "cpu" and torch.cuda.is_available():
        for holder, name, tensor in _tensors(module):
            if is_traceable_wrapper_subclass(tensor):
                continue
            pinned = tensor.data.pin_memory()
            holder[name] = nn.Parameter(pinned, requires_grad=False) if isinstance(tensor, nn.Parameter) else pinned


class StreamedBlocks:
    """A transformer's blocks as a sequence whose members are on the device only while they are being iterated."""

    def __init__(self, blocks: Any, device: torch.device) -> None:
        self._blocks, self._device = list(blocks), device
        self._copies: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.fetched = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[Any]:
        return self.between(0, len(self._blocks))

    def between(self, start: int, end: int) -> Iterator[Any]:
        """The next block is on its way while this one works; each leaves when the next is asked for."""
        ahead = self._fetch(self._blocks[start]) if start < end else []
        for index in range(start, end):
            arrived, home = ahead, _tensors(self._blocks[index])
            self._await(arrived)
            ahead = self._fetch(self._blocks[index + 1]) if index + 1 < end else []
            try:
                for (holder, name, _), tensor in zip(home, arrived, strict=True):
                    holder[name] = tensor
                yield self._blocks[index]
            finally:
                _back(home)

    def _fetch(self, block: Any) -> list[Any]:
        self.fetched += 1
        with torch.cuda.stream(self._copies) if self._copies else contextlib.nullcontext():
            return [_on(tensor, self._device) for _, _, tensor in _tensors(block)]

    def _await(self, tensors: list[Any]) -> None:
        if self._copies is None:
            return
        working = torch.cuda.current_stream(self._device)
        working.wait_stream(self._copies)
        for plain in (part for tensor in tensors for part in plain_parts(tensor)):
            # Made on the copying stream: its memory must not be reused before the working one is done with it.
            plain.record_stream(working)


def plain_parts(tensor: Any) -> Iterator[torch.Tensor]:
    """An eight-bit tensor is several in one, and knows neither streams nor its own size."""
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from plain_parts(getattr(tensor, name))


def _tensors(module: Any) -> Home:
    found: Home = []
    for part in module.modules():
        for holder in (part._parameters, part._buffers):
            found += [(holder, name, tensor) for name, tensor in holder.items() if tensor is not None]
    return found


def _on(tensor: Any, device: torch.device) -> Any:
    moved = tensor.data.to(device, non_blocking=True)
    return nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved


def _back(home: Home) -> None:
    for holder, name, tensor in home:
        holder[name] = tensor
