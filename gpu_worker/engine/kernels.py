"""Attention kernels: which there are, which of them work here, and which is fastest. Asked once, at start.

Every kernel takes query, key and value as (batch, heads, tokens, head_dim) and gives the same shape back.
"""

import importlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

CHECK_TOKENS, TIMED_TOKENS, TIMED_CALLS = 320, 16_384, 3
MAX_ERROR = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 2e-2}
MAX_APPROXIMATE_ERROR = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kernel:
    name: str
    attend: Attend
    is_exact: bool = True
    """Computes attention itself; others round to 8 bits on the way and serve only presets that allow it."""


class KernelUnusable(Exception):
    """Not installed, not for this device, or wrong."""


def sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """What PyTorch picks by itself; on a CPU the same bits as the stock pipelines."""
    return scaled_dot_product_attention(query, key, value)


def _with_backend(backend: SDPBackend) -> Attend:
    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(query, key, value)

    return attend


def _flash3() -> Attend:
    flash = importlib.import_module("flash_attn_interface").flash_attn_func

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        out = flash(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        # Older builds also return the log-sum-exp.
        found: torch.Tensor = out[0] if isinstance(out, tuple) else out
        return found.transpose(1, 2)

    return _opaque(attend)


def _sage() -> Attend:
    sage = importlib.import_module("sageattention").sageattn

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = sage(query, key, value, tensor_layout="HND", is_causal=False)
        return out

    return _opaque(attend)


def _opaque(attend: Attend) -> Attend:
    """The compiler cannot look into it: said aloud, it breaks the graph here and nowhere else."""
    hidden: Attend = torch.compiler.disable(attend)  # type: ignore[no-untyped-call]
    return hidden


def _flex() -> Attend:
    from torch.nn.attention.flex_attention import flex_attention

    # Uncompiled it builds the whole score matrix.
    compiled: Any = torch.compile(flex_attention, dynamic=False)
    return lambda query, key, value: compiled(query, key, value)


_MAKERS: dict[str, tuple[Callable[[], Attend], bool]] = {
    "sdpa": (lambda: sdpa, True),
    "cudnn": (lambda: _with_backend(SDPBackend.CUDNN_ATTENTION), True),
    "flash": (lambda: _with_backend(SDPBackend.FLASH_ATTENTION), True),
    "efficient": (lambda: _with_backend(SDPBackend.EFFICIENT_ATTENTION), True),
    "flex": (_flex, True),
    "flash3": (_flash3, True),
    "sage": (_sage, False),
    "math": (lambda: _with_backend(SDPBackend.MATH), True),
}
# PyTorch's own pick first: it wins ties, and on a CPU it is the only one tried, for the sake of equal bits.
# `math` holds the whole score matrix: only on request.
TRIED = {"cpu": ("sdpa",), "cuda": ("sdpa", "cudnn", "flash", "efficient", "flash3", "flex", "sage")}


def sample_of(transformer: Any, tokens: int, device: torch.device) -> torch.Tensor:
    """Stands for the query of one attention: only its shape, type and device count."""
    heads, dim = transformer.config.num_attention_heads, transformer.config.attention_head_dim
    return torch.empty(1, device=device, dtype=transformer.dtype).expand(1, heads, tokens, dim)


def make_kernel(name: str) -> Kernel:
    maker, is_exact = _MAKERS[name]
    try:
        return Kernel(name, maker(), is_exact)
    except (ImportError, AttributeError, OSError) as exc:
        raise KernelUnusable(f"not installed: {exc}") from exc


def is_known(name: str) -> bool:
    return name in _MAKERS


def choose_kernel(sample: torch.Tensor, wanted: str = "auto", may_approximate: bool = False) -> Kernel:
    """The fastest kernel that gives the right answer for tensors like `sample`; every refusal is logged."""
    right = _right_kernels(sample, wanted, may_approximate)
    if not right:
        logger.warning("no attention kernel was found right: PyTorch's own is used unchecked")
        return Kernel("sdpa", sdpa)
    if wanted != "auto" or len(right) == 1:
        logger.info("attention kernel chosen", extra={"kernel": right[0].name})
        return right[0]
    seconds = {kernel.name: _seconds(kernel, sample) for kernel in right}
    best = min(right, key=lambda kernel: seconds[kernel.name])
    milliseconds = {name: round(taken * 1e3, 3) for name, taken in seconds.items()}
    logger.info("attention kernel chosen", extra={"kernel": best.name, "milliseconds": milliseconds})
    return best


def _right_kernels(sample: torch.Tensor, wanted: str, may_approximate: bool) -> list[Kernel]:
    names = TRIED.get(sample.device.type, ("sdpa",)) if wanted == "auto" else (wanted, "sdpa")
    found: list[Kernel] = []
    for name in dict.fromkeys(names):
        try:
            kernel = make_kernel(name)
            if kernel.is_exact or may_approximate:
                check_kernel(kernel, sample)
                found.append(kernel)
        except KernelUnusable as exc:
            logger.warning("attention kernel not used", extra={"kernel": name, "why": str(exc)})
    return found


def check_kernel(kernel: Kernel, sample: torch.Tensor) -> None:
    """Against exact float32 arithmetic on a few tokens, of a count that fills no tile; KernelUnusable if it differs."""
    error = relative_error(kernel, sample)
    allowed = MAX_ERROR.get(sample.dtype, 1e-4) if kernel.is_exact else MAX_APPROXIMATE_ERROR
    if not error <= allowed:
        raise KernelUnusable(f"wrong by {error:.3g}, allowed {allowed:.3g}")


def relative_error(kernel: Kernel, sample: torch.Tensor) -> float:
    query, key, value = (_random(sample, CHECK_TOKENS + 7, seed) for seed in range(3))
    try:
        found = kernel.attend(query, key, value).float()
    except Exception as exc:
        # Kernels come from several projects and fail in their own ways; one line tells which and why.
        raise KernelUnusable(f"{type(exc).__name__}: {str(exc).strip()[:200]}") from exc
    scores = query.float() @ key.float().transpose(-1, -2) / math.sqrt(query.shape[-1])
    expected = scores.softmax(-1) @ value.float()
    if found.shape != expected.shape:
        raise KernelUnusable(f"gives shape {tuple(found.shape)}")
    return float((found - expected).norm() / expected.norm())


def _seconds(kernel: Kernel, sample: torch.Tensor) -> float:
    tensors = [_random(sample, min(TIMED_TOKENS, sample.shape[2]), seed) for seed in range(3)]
    best = math.inf
    for _ in range(TIMED_CALLS):
        _wait(sample.device)
        started = time.perf_counter()
        kernel.attend(*tensors)
        _wait(sample.device)
        best = min(best, time.perf_counter() - started)
    return best


def _random(like: torch.Tensor, tokens: int, seed: int) -> torch.Tensor:
    shape = (1, like.shape[1], tokens, like.shape[3])
    # Drawn on the device: in main memory a draw takes longer than any kernel that is timed with it.
    draw = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(shape, generator=draw, device=like.device, dtype=like.dtype)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
