"""Linear layers in 8 bits, by torchao: a second set of blocks beside the native ones, made when first asked for."""

import copy
import importlib
import logging
from typing import Any

import torch
from torch import nn

_CONFIGS = {"int8": "Int8DynamicActivationInt8WeightConfig", "fp8": "Float8DynamicActivationFloat8WeightConfig"}
MIN_FP8_CAPABILITY = (8, 9)
# How torchao says that a layer, a type or a device will not do.
_REFUSALS = (AssertionError, RuntimeError, ValueError)

logger = logging.getLogger(__name__)


class PrecisionUnusable(Exception):
    """torchao is missing, or this device cannot work in it."""


def lowered(transformer: Any, precision: str, device: torch.device) -> Any:
    """The same transformer with blocks of lower precision; all else is shared. PrecisionUnusable if that cannot be.

    `device` is where it works, which need not be where it lives.
    """
    convert, config = _torchao(precision, device)
    # One block at a time: the native weights are never held twice as a whole.
    blocks = nn.ModuleList()
    for block in transformer.transformer_blocks:
        # Not the processor: all blocks of all precisions attend by the same one.
        processor = block.attn1.processor
        lower = copy.deepcopy(block, {id(processor): processor})
        try:
            convert(lower, config, filter_fn=_is_heavy)
        except _REFUSALS as exc:
            raise PrecisionUnusable(str(exc)[:200]) from exc
        blocks.append(lower)
    variant = copy.copy(transformer)
    variant._modules = dict(transformer._modules) | {"transformer_blocks": blocks}
    return variant


def lower_text(encoder: Any) -> Any:
    """The text encoder with eight-bit weights: half of its memory. As it was, with a line that says why, if not."""
    try:
        torchao = importlib.import_module("torchao.quantization")
        torchao.quantize_(encoder, torchao.Int8WeightOnlyConfig())
    except (ImportError, AttributeError, *_REFUSALS) as exc:
        logger.warning("text encoder not in int8", extra={"why": str(exc)})
    return encoder


def _torchao(precision: str, device: torch.device) -> tuple[Any, Any]:
    if precision == "fp8" and not _can_fp8(device):
        raise PrecisionUnusable("fp8 needs a GPU of compute capability 8.9 or more")
    try:
        torchao = importlib.import_module("torchao.quantization")
        return torchao.quantize_, getattr(torchao, _CONFIGS[precision])()
    except (ImportError, AttributeError) as exc:
        raise PrecisionUnusable(f"torchao: {exc}") from exc


def _can_fp8(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= MIN_FP8_CAPABILITY


def _is_heavy(module: nn.Module, name: str) -> bool:
    """Projections and feed-forward; the modulation of norms sees one token and decides much."""
    return isinstance(module, nn.Linear) and name.startswith(("attn1.", "ff."))
