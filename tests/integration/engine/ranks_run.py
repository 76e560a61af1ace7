"""Renders one clip with so many ranks; leaves latents, frames and counts in a folder. Run by test_ranks.py."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file

from gpu_worker.engine import render
from gpu_worker.engine.crew import Crew
from gpu_worker.engine.load import load_model, pick_device
from gpu_worker.engine.render import Clip, Renderer
from tests.integration.engine.plans import small_plan

CPU = pick_device("cpu")


def main() -> None:
    models, out, world, branches = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    arguments = ["--model", "tiny-random", "--models", str(models), "--device", "cpu", "--memory", "16"]
    crew = Crew(world, arguments, branches) if world > 1 else None
    model = load_model("tiny-random", models, CPU, "24")
    renderer = Renderer(model, ranks=crew.join(CPU) if crew else None)
    attended: list[tuple[int, ...]] = []
    exact = renderer.tuned.attention.attend

    def counted(query: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        attended.append(tuple(query.shape))
        return exact(query, *rest)

    renderer.tuned.exact = type(renderer.tuned.exact)("counted", counted)
    tiles = count_tiles(model.vae)
    kept: dict[str, torch.Tensor] = {}
    told: dict[str, Any] = {}
    for mode, threshold in (("t2v", 0.0), ("i2v", 0.0), ("t2v", 1e9)):
        name = f"{mode}-{threshold}"
        image = out / "first.png" if mode == "i2v" else None
        Image.linear_gradient("L").resize((256, 160)).convert("RGB").save(out / "first.png")
        plan = small_plan(width=256, height=160, cache_threshold=threshold, scheduler="dpm")
        attended.clear()
        tiles.clear()
        plain = render.write_frames
        render.write_frames = lambda frames, _, name=name: kept.update({name: frames.contiguous()})  # type: ignore[assignment]
        renderer.render(Clip(plan, "a red ball", image, 3), out / "f", lambda *_: None)
        render.write_frames = plain
        told[name] = {"attended": len(attended), "shape": attended[0], "tiles": len(tiles), "used": renderer.used}
    save_file(kept, out / "frames.safetensors")
    (out / "told.json").write_text(json.dumps(told))


def count_tiles(vae: Any) -> list[int]:
    """One entry for each tile that this rank decodes: the first chunk comes without a memory."""
    found: list[int] = []

    def note(_module: Any, _args: Any, words: dict[str, Any]) -> None:
        if words.get("conv_cache") is None:
            found.append(1)

    vae.decoder.register_forward_pre_hook(note, with_kwargs=True)
    return found


main()
