"""`cogvideox-server bench engine`: the stock pipeline and each variant in one run, on random weights."""

import argparse
import gc
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from gpu_worker.engine.bench.report import document, markdown, rows, write
from gpu_worker.engine.bench.shapes import SHAPES, Shape, build
from gpu_worker.engine.bench.variants import Measured, Task, decode_latents, make_tuned, ours, stock
from gpu_worker.engine.compiled import use_cache_folder
from gpu_worker.engine.load import free_bytes, load_model, pick_device
from gpu_worker.engine.memory import MemoryPreset, choose_preset
from gpu_worker.engine.model import Model
from gpu_worker.engine.text import encode_prompt
from video_jobs.catalogue import STEP_COUNTS, Catalogue, load_catalogue, parse_size
from video_jobs.cost import forward_tflop
from video_jobs.job import Quality, RenderPlan, VideoSpec

WORDS = ("compile", "int8", "fp8", "approximate", "cache")


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parse(arguments)
    device = pick_device(args.device)
    if args.compile_cache:
        use_cache_folder(args.compile_cache)
    shape, catalogue = SHAPES[args.shape], load_catalogue()
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    preset = choose_preset(args.memory, free_bytes(device))
    plan = plan_of(catalogue, shape, args, Quality.QUALITY)
    best: dict[str, Measured] = {}
    # In turn, so that what else the machine does meets all alike.
    for name in args.variants.split(",") * args.rounds:
        # Each variant starts with weights of its own: what one did to them is no help to the next.
        model = weights(args, shape, device, dtype, preset)
        found = measure(name, model, catalogue, shape, args)
        print(f"{name}: {found.step_s:.3f} s/step", file=sys.stderr)
        best[name] = min(found, best.get(name, found), key=lambda one: one.effort(device))
        del model
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    # Both branches of guidance pass through every block at once.
    per_block = 2 * _tflop(shape, catalogue, plan) / shape.layers
    width, height, frames = plan.width, plan.height, plan.num_frames
    clip = f"{frames} frames at {width}x{height}, {plan.steps} steps"
    title = f"The engine: {args.shape}, {clip}, {args.model or 'random weights'}"
    command = shlex.join(["cogvideox-server", "bench", "engine", *(arguments or sys.argv[1:])])
    said = document(title, command, device, rows(list(best.values()), per_block, device))
    print(json.dumps(said, indent=2) if args.json else markdown(said))
    if args.write:
        write(said, args.write)


def weights(
    args: argparse.Namespace, shape: Shape, device: torch.device, dtype: torch.dtype, preset: MemoryPreset
) -> Model:
    """Trained ones where they were named: only those tell how far an approximation is from exact."""
    return (
        load_model(args.model, args.models, device, preset.name) if args.model else build(shape, device, dtype, preset)
    )


def embeddings(args: argparse.Namespace, shape: Shape, model: Model) -> torch.Tensor:
    if args.model:
        return encode_prompt(model, args.prompt, shape.text_tokens)
    draw = torch.Generator("cpu").manual_seed(1)
    drawn = torch.randn(2, shape.text_tokens, shape.text_dim, generator=draw)
    return drawn.to(model.device, model.transformers["t2v"].dtype)


def measure(name: str, model: Model, catalogue: Catalogue, shape: Shape, args: argparse.Namespace) -> Measured:
    embeds = embeddings(args, shape, model)
    words = name.split("+")
    plan = plan_of(catalogue, shape, args, Quality.SPEED if words[0] == "speed" else Quality.QUALITY)
    plan = plan.model_copy(update=_changes(words, args.cache_threshold))
    task = Task(shape, plan, embeds, min(args.measured_steps or plan.steps, plan.steps))
    if words[0] == "stock":
        found = stock(model, task)
    else:
        tuned = make_tuned(model, name, args.attention)
        # Once before it is timed: code is compiled, eight-bit blocks are made.
        ours(model, Task(shape, plan, embeds, 1), name, tuned)
        found = ours(model, task, name, tuned)
    if args.decode:
        decode_latents(model, found, plan)
    return found


def plan_of(catalogue: Catalogue, shape: Shape, args: argparse.Namespace, quality: Quality) -> RenderPlan:
    """The catalogue's preset; with another step count for `quality`, `speed` keeps its share of it."""
    width, height = parse_size(args.size) if args.size else shape.size
    spec = VideoSpec(model="", quality=quality, width=width, height=height, fps=16, duration_s=5, seed=0)
    plan = catalogue.plan(spec, shape.checkpoint)
    full = catalogue.checkpoints[shape.checkpoint].presets["quality"].steps
    steps = nearest_count(plan.steps * (args.steps or full) / full)
    native = {"width": width, "height": height, "num_frames": args.frames or shape.frames, "steps": steps}
    return plan.model_copy(update=native | {"max_text_tokens": shape.text_tokens})


def nearest_count(steps: float) -> int:
    return min(STEP_COUNTS, key=lambda count: abs(count - steps))


def _changes(words: list[str], cache_threshold: float) -> dict[str, object]:
    changes: dict[str, object] = {}
    for precision in ("int8", "fp8"):
        if precision in words:
            changes["precision"] = precision
    if "approximate" in words:
        changes["approximate_attention"] = True
    if "cache" in words:
        changes["cache_threshold"] = cache_threshold
    return changes


def _tflop(shape: Shape, catalogue: Catalogue, plan: RenderPlan) -> float:
    native = catalogue.checkpoints[shape.checkpoint].model_copy(
        update={"layers": shape.layers, "hidden": shape.heads * shape.head_dim, "patch_t": shape.patch_t or 1}
    )
    return forward_tflop(native, plan)


def _variants(text: str) -> str:
    for name in text.split(","):
        first, *rest = name.split("+")
        if first not in ("stock", "exact", "speed") or set(rest) - set(WORDS):
            raise argparse.ArgumentTypeError(f"{name}: stock, or exact or speed with +{', +'.join(WORDS)}")
    return text


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cogvideox-server bench engine", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--random-weights", action="store_true", help="so unless --model names others")
    parser.add_argument("--model", help="trained weights of this shape: `tiny`, a folder or a hub id")
    parser.add_argument("--models", type=Path, default=Path("state/models"))
    parser.add_argument("--prompt", default="a red circle moves right on a blue background")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--size", help="WIDTHxHEIGHT, sides of 16")
    parser.add_argument("--steps", type=int, help="of `exact`; `speed` takes its share")
    parser.add_argument("--measured-steps", type=int, help="stop each variant after so many and extrapolate")
    parser.add_argument("--variants", type=_variants, default="stock,exact,speed")
    parser.add_argument("--rounds", type=int, default=1, help="measure all so often, in turn; the best counts")
    parser.add_argument("--cache-threshold", type=float, default=0.15, help="of +cache")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--memory", default="auto")
    parser.add_argument("--compile-cache", type=Path)
    parser.add_argument("--decode", action="store_true", help="decode too: its time, and PSNR and SSIM against exact")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--write", type=Path, help="write PATH.json and PATH.md")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
