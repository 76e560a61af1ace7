"""oneDNN for every convolution on a CPU: PyTorch takes a slow kernel for a single small clip, five times slower."""

from types import MethodType
from typing import Any

import torch
from torch import nn

ONEDNN = "onednn"


def has_onednn(device: torch.device) -> bool:
    return device.type == "cpu" and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def convolve_by_onednn(module: Any) -> None:
    """The same sums in another order: the last bit of a pixel may differ from the stock decoder's."""
    for part in (part for part in module.modules() if isinstance(part, nn.Conv3d)):
        vars(part)["_conv_forward"] = MethodType(_convolve, part)


def _convolve(self: Any, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.mkldnn_convolution(states, weight, bias, self.padding, self.stride, self.dilation, self.groups)
