"""`cogvideox-server plan`: how many GPUs a load needs, from the same cost model that fair shares are charged by."""

import argparse
import json
import math
import sys
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from video_jobs.catalogue import Catalogue, load_catalogue
from video_jobs.cost import device_seconds, stage_seconds
from video_jobs.job import Quality, RenderPlan, Stage, VideoSpec

# Published dense bf16 peaks, as a share of the H100's, whose effective rate the catalogue holds. Not measured.
GPUS = {
    "h200": 1.0,
    "h100": 1.0,
    "a100": 312 / 989,
    "l40s": 362 / 989,
    "rtx4090": 165 / 989,
    "a10": 125 / 989,
    "l4": 121 / 989,
}
MAX_USE = 0.8
"""Above this share of busy time queues grow long at the first burst."""

VIDEO_MEGABITS_PER_MEGAPIXEL_FRAME = 0.06
FINISHER_CORES = 4


def plan(args: argparse.Namespace) -> int:
    try:
        catalogue = load_catalogue(args.catalogue)
        rendered = _rendered(args, catalogue)
    except ValidationError:
        raise  # a ValueError too, but the command has one line for it
    except (LookupError, ValueError, OSError) as error:
        why = error.args[0] if isinstance(error, LookupError) else str(error)
        print(f"cogvideox-server plan: {why}; see cogvideox-server plan --help", file=sys.stderr)
        return 2
    told = capacity(catalogue, rendered, args.videos_per_hour, args.gpu, args.seconds_per_video)
    print(json.dumps(told) if args.json else _page(told))
    return 0


def capacity(
    catalogue: Catalogue, rendered: RenderPlan, videos_per_hour: float, gpu: str, measured_s: float | None = None
) -> dict[str, Any]:
    """What the load needs. A measured time for one video goes before the prediction."""
    checkpoint = catalogue.checkpoints[rendered.checkpoint]
    seconds = measured_s or device_seconds(checkpoint, rendered) / GPUS[gpu]
    stages = stage_seconds(checkpoint, rendered)
    busy = videos_per_hour * seconds / 3600
    megabytes = (
        rendered.out_width * rendered.out_height * rendered.out_frames / 1e6 * (VIDEO_MEGABITS_PER_MEGAPIXEL_FRAME / 8)
    )
    return {
        "checkpoint": rendered.checkpoint,
        "preset": rendered.preset,
        "native": f"{rendered.width}x{rendered.height}, {rendered.num_frames} frames, {rendered.steps} steps",
        "delivered": f"{rendered.out_width}x{rendered.out_height}, {rendered.out_fps} fps",
        "gpu": gpu,
        "gpu_seconds_per_video": round(seconds, 1),
        "from": "measured, as given" if measured_s else "predicted",
        "gpus_busy": round(busy, 2),
        "gpus": max(1, math.ceil(busy / MAX_USE)),
        "videos_per_gpu_hour": round(3600 / seconds, 1),
        "finisher_cores": math.ceil(videos_per_hour * stages[Stage.FINISH] / 3600 / MAX_USE),
        "store_gb_per_day": round(videos_per_hour * 24 * megabytes / 1000, 1),
    }


def _rendered(args: argparse.Namespace, catalogue: Catalogue) -> RenderPlan:
    _check("GPU", args.gpu, GPUS)
    _check("checkpoint", args.checkpoint, catalogue.checkpoints)
    _check("model code", args.model, catalogue.models)
    model = catalogue.models[args.model]
    _check("size", args.size, model.sizes)
    _check("fps", args.fps, model.fps)
    _check("duration", args.duration, model.durations)
    width, _, height = args.size.partition("x")
    spec = VideoSpec(
        model=args.model,
        quality=Quality(args.quality),
        width=int(width),
        height=int(height),
        fps=args.fps,
        duration_s=args.duration,
        seed=0,
    )
    return catalogue.plan(spec, args.checkpoint)


def _check(what: str, asked: object, there: Collection[object]) -> None:
    if asked not in there:
        raise LookupError(f"no {what} {asked}; there are {', '.join(map(str, there))}")


def _page(told: dict[str, Any]) -> str:
    lines = [f"{name.replace('_', ' '):24}{value}" for name, value in told.items()]
    note = (
        f"{MAX_USE:.0%} of the time busy at most. Predicted from counted operations and the GPU's published peak; give "
        "--seconds-per-video what `cogvideox-server bench engine` or your own metrics say."
    )
    return "\n".join([*lines, "", note])
