"""`python -P -m gpu_worker.engine.follow`: one of the other ranks. It does what the leader says."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from gpu_worker.engine.compiled import use_cache_folder
from gpu_worker.engine.convolve import has_onednn
from gpu_worker.engine.geometry import geometry_of, positions
from gpu_worker.engine.load import load_model, pick_device
from gpu_worker.engine.memory import preset_named
from gpu_worker.engine.model import Model
from gpu_worker.engine.predict import Conditions
from gpu_worker.engine.process import die_with_parent
from gpu_worker.engine.protocol import OUT_OF_MEMORY
from gpu_worker.engine.ranks import Ranks, join
from gpu_worker.engine.tiles import decode_shared
from gpu_worker.engine.tune import Options, Tuned
from video_jobs.catalogue import load_catalogue
from video_jobs.job import RenderPlan
from video_jobs.logs import set_up_logs

logger = logging.getLogger(__name__)


class Follower:
    def __init__(self, model: Model, tuned: Tuned, ranks: Ranks) -> None:
        self._model, self._tuned, self._ranks = model, tuned, ranks

    @torch.no_grad()
    def follow(self) -> None:
        """For ever: a follower ends with its leader."""
        said = self._ranks.hear()
        while True:
            if said["do"] == "clip":
                said = self._clip(said)
                continue
            if said["do"] == "decode":
                latents = self._hear_tensor(said["shape"], said["dtype"])
                with self._model.at_work(self._model.vae, self._model.memory.vae) as vae:
                    decode_shared(vae, latents, self._ranks)
            said = self._ranks.hear()

    def _clip(self, said: dict[str, Any]) -> dict[str, Any]:
        """Predict with the others until something else is said."""
        plan, mode = RenderPlan.model_validate(said["plan"]), said["mode"]
        # The leader holds the text encoder too: what fits there fits here.
        if said["memory"] != self._model.memory.name:
            self._tuned.settle(preset_named(said["memory"]))
        embeds = self._hear_tensor(said["embeds"], said["dtype"])
        image = self._hear_tensor(said["image"], said["dtype"]) if said["image"] else None
        transformer = self._model.transformers[mode]
        shape = geometry_of(self._model, transformer, plan.width, plan.height, plan.num_frames)
        given = Conditions(embeds, positions(transformer, shape, self._model.device), image, said["guidance"])
        sample = torch.empty(shape.latent_shape, dtype=embeds.dtype, device=self._model.device)
        adapter = Path(said["adapter"]) if said["adapter"] else None
        with self._tuned.predictor(plan, mode, given, adapter, said["kernel"]) as predict:
            while (said := self._ranks.hear())["do"] == "step":
                time = torch.tensor(said["time"], device=self._model.device)
                predict(self._ranks.pass_on(sample), time, said["is_last"])
        return said

    def _hear_tensor(self, shape: list[int], dtype: str) -> torch.Tensor:
        return self._ranks.pass_on(torch.empty(shape, dtype=getattr(torch, dtype), device=self._model.device))


def main() -> None:
    parser = argparse.ArgumentParser(prog="gpu_worker.engine.follow", description=__doc__)
    for name in ("rank", "world", "branches"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--meeting", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--catalogue", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--memory", default="auto")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--compile-cache", type=Path)
    parser.add_argument("--compiled", action="store_true")
    args = parser.parse_args()
    die_with_parent(0)
    set_up_logs("INFO")
    if args.compile_cache:
        use_cache_folder(args.compile_cache)
    try:
        _follow(args)
    except torch.OutOfMemoryError:
        # Its leader tells the parent, which starts them all again in less.
        logger.exception("out of memory")
        sys.exit(OUT_OF_MEMORY)


def _follow(args: argparse.Namespace) -> None:
    device = pick_device(args.device if args.device == "cpu" else f"{args.device}:{args.rank}")
    model = load_model(args.model, args.models, device, args.memory, "none", load_catalogue(args.catalogue))
    ranks = join(args.rank, args.world, args.meeting, device, args.branches)
    tuned = Tuned(model, Options(args.attention, args.compiled, has_onednn(model.device)), ranks)
    tuned.choose_kernels()
    Follower(model, tuned, ranks).follow()


if __name__ == "__main__":
    main()
