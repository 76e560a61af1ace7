"""What was measured, as JSON and as a Markdown table."""

import json
import math
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffusers
import torch

from gpu_worker.engine.bench.compare import psnr, ssim
from gpu_worker.engine.bench.variants import Measured

# Dense 16-bit TFLOP/s by the vendors' data sheets.
PEAKS = {"H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L20": 119.5, "4090": 165.2}
HEAD = (
    "variant",
    "s/step",
    "denoise s",
    "decode s",
    "s/video",
    "denoise of stock",
    "of exact",
    "TFLOP/s",
    "of peak",
    "blocks run",
    "peak memory",
    "PSNR",
    "SSIM",
)
NOT_MEASURED = "not measured"


def rows(found: list[Measured], tflop_per_block: float, device: torch.device) -> list[dict[str, Any]]:
    """One for each variant; differences are told against `exact`."""
    by_name = {one.variant: one for one in found}
    base, exact = by_name.get("stock"), by_name.get("exact")
    return [_row(one, base, exact, tflop_per_block, device) for one in found]


def _row(
    one: Measured, base: Measured | None, exact: Measured | None, tflop_per_block: float, device: torch.device
) -> dict[str, Any]:
    seconds = sum(one.seconds)
    tflops = one.blocks * tflop_per_block / seconds
    peak = peak_tflops(device)
    row: dict[str, Any] = {
        "variant": one.variant,
        "step_s": round(one.step_s, 4),
        "video_s": round(one.video_s, 3),
        "extrapolated": one.is_extrapolated,
        "steps": one.steps,
        "steps_measured": len(one.seconds),
        "denoise_s": round(one.denoise_s, 3),
        "of_stock": _share(one, base, device),
        "of_exact": _share(one, exact, device),
        "tflops": round(tflops, 3),
        "of_peak": round(tflops / peak, 3) if peak else None,
        "blocks": one.blocks,
        "peak_gb": round(one.peak_bytes / 1e9, 2),
        "decode_s": round(one.decode_s, 3),
        "used": one.used,
    }
    return row | _difference(one, exact)


def _share(one: Measured, other: Measured | None, device: torch.device) -> float | None:
    if other is None:
        return None
    return round(one.effort(device) / other.effort(device), 3)


def _difference(one: Measured, exact: Measured | None) -> dict[str, Any]:
    if exact is None or exact.frames is None or one.frames is None or one.frames.shape != exact.frames.shape:
        return {"psnr": None, "ssim": None}
    # Clips that were not denoised to the end say nothing about each other.
    if one.is_extrapolated or exact.is_extrapolated:
        return {"psnr": None, "ssim": None}
    decibel = psnr(one.frames, exact.frames)
    # JSON knows no infinity.
    told = "inf" if math.isinf(decibel) else round(decibel, 2)
    return {"psnr": told, "ssim": round(ssim(one.frames, exact.frames), 4)}


def peak_tflops(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads used"


def document(title: str, command: str, device: torch.device, body: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "title": title,
        "command": command,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "device": device_name(device),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        },
        "rows": body,
    }


def markdown(said: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in said["versions"].items())
    lines = [f"# {said['title']}", "", f"`{said['command']}` on {said['date']}: {said['device']}; {versions}.", ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in said["rows"]]
    lines += ["", "Shares are of processor time: the machine is shared."] if said["device"].startswith("CPU") else []
    extrapolated = any(row["extrapolated"] for row in said["rows"])
    lines += ["", "`*` extrapolated from the steps that were measured."] if extrapolated else []
    return "\n".join([*lines, ""])


def _cells(row: dict[str, Any]) -> list[str]:
    def told(value: Any, form: str = "{}") -> str:
        return "-" if value is None else form.format(value)

    mark = "*" if row["extrapolated"] else ""
    differs = row["variant"] not in ("stock", "exact")
    return [
        row["variant"],
        f"{row['step_s']:.3f}",
        f"{row['denoise_s']:.2f}{mark}",
        f"{row['decode_s']:.2f}" if row["decode_s"] else "-",
        f"{row['video_s']:.2f}{mark}",
        told(row["of_stock"]),
        told(row["of_exact"]),
        told(row["tflops"]),
        told(row["of_peak"], "{:.0%}"),
        str(row["blocks"]),
        f"{row['peak_gb']} GB",
        told(row["psnr"], "{} dB") if row["psnr"] is not None or not differs else NOT_MEASURED,
        told(row["ssim"]) if row["ssim"] is not None or not differs else NOT_MEASURED,
    ]


def write(said: dict[str, Any], path: Path) -> None:
    """Both forms, beside each other."""
    path.with_suffix(".json").write_text(json.dumps(said, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(said))
