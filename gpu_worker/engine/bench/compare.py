"""How far one clip is from another: PSNR and SSIM of frames in [0, 1]."""

import math

import torch
from torch.nn.functional import avg_pool2d

WINDOW = 8
C1, C2 = 0.01**2, 0.03**2


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    error = float((one.float() - other.float()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(one: torch.Tensor, other: torch.Tensor) -> float:
    """Over windows of 8x8, as in the paper's simple form; (frames, channels, height, width)."""
    total = 0.0
    # Frame by frame: a large clip's float copies would not fit beside it.
    for left, right in zip(one, other, strict=True):
        total += _frame_ssim(left.float()[None], right.float()[None])
    return total / len(one)


def _frame_ssim(x: torch.Tensor, y: torch.Tensor) -> float:
    mean_x, mean_y = avg_pool2d(x, WINDOW, 1), avg_pool2d(y, WINDOW, 1)
    var_x = avg_pool2d(x * x, WINDOW, 1) - mean_x**2
    var_y = avg_pool2d(y * y, WINDOW, 1) - mean_y**2
    both = avg_pool2d(x * y, WINDOW, 1) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + C1) * (2 * both + C2)
    return float((likeness / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))).mean())
