"""Our loop against the stock pipelines: the same bits, for both modes, both schedulers, 1.0 and 1.5 shapes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXPipeline, CogVideoXTransformer3DModel
from PIL import Image

from gpu_worker.engine.denoise import Latents
from gpu_worker.engine.load import load_model, pick_device
from gpu_worker.engine.model import Model
from gpu_worker.engine.render import Clip, Renderer
from gpu_worker.engine.tiny import make_tiny_model
from video_jobs.job import RenderPlan, Stage

pytestmark = pytest.mark.worker
WIDTH, HEIGHT, FRAMES, STEPS = 64, 32, 9, 10


def plan(scheduler: str, **changes: Any) -> RenderPlan:
    values: dict[str, Any] = {
        **{"checkpoint": "tiny-random", "preset": "speed", "width": WIDTH, "height": HEIGHT, "num_frames": FRAMES},
        **{"native_fps": 16, "steps": STEPS, "scheduler": scheduler, "guidance": 6.0, "max_text_tokens": 64},
        **{"out_width": 64, "out_height": 32, "out_fps": 30, "out_frames": 15},
    }
    return RenderPlan.model_validate(values | changes)


def as_first_generation(model: Model, mode: str) -> None:
    """A 1.0 transformer: no time patches; learned positions for images, none rotary for 2B-like text models."""
    torch.manual_seed(7)
    config = dict(model.transformers[mode].config) | {"patch_size_t": None, "patch_bias": True, "ofs_embed_dim": None}
    config |= {"sample_height": 4, "sample_width": 8, "sample_frames": 9}
    config |= {"use_rotary_positional_embeddings": mode == "i2v"}
    model.transformers[mode] = CogVideoXTransformer3DModel.from_config(config).eval()


def picture(tmp_path: Path) -> Path:
    path = tmp_path / "first.png"
    Image.linear_gradient("L").resize((WIDTH, HEIGHT)).convert("RGB").save(path)
    return path


def stock_frames(model: Model, mode: str, scheduler: str, image: Path | None) -> torch.Tensor:
    kind = CogVideoXPipeline if mode == "t2v" else CogVideoXImageToVideoPipeline
    pipeline = kind(
        model.tokenizer, model.text_encoder, model.vae, model.transformers[mode], model.scheduler(scheduler, mode)
    )
    pipeline.set_progress_bar_config(disable=True)
    given = {"image": Image.open(image)} if image else {}
    out = pipeline(
        prompt="a red ball",
        **given,
        **{"width": WIDTH, "height": HEIGHT, "num_frames": FRAMES, "num_inference_steps": STEPS},
        **{"guidance_scale": 6.0, "max_sequence_length": 64, "output_type": "pt"},
        generator=torch.Generator().manual_seed(3),
    )
    frames: torch.Tensor = out.frames[0]
    return frames


def our_frames(model: Model, scheduler: str, image: Path | None, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    kept: list[torch.Tensor] = []
    monkeypatch.setattr("gpu_worker.engine.render.write_frames", lambda frames, path: kept.append(frames))
    Renderer(model).render(Clip(plan(scheduler), "a red ball", image, 3), Path("unused"), lambda *_: None)
    return kept[0]


@pytest.mark.parametrize("generation", ["1.0", "1.5"])
@pytest.mark.parametrize("mode", ["t2v", "i2v"])
@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
def test_every_bit_equals_the_stock_pipeline(
    generation: str, mode: str, scheduler: str, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if generation == "1.0":
        as_first_generation(model, mode)
    image = picture(tmp_path) if mode == "i2v" else None
    # First: our renderer gives the transformers its own attention.
    stock = stock_frames(model, mode, scheduler, image)

    ours = our_frames(model, scheduler, image, monkeypatch)

    assert torch.equal(ours, stock)
    assert ours.shape == (FRAMES, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("file", "change"),
    [("vae/config.json", {"invert_scale_latents": False}), ("scheduler/scheduler_config.json", {"snr_shift_scale": 3})],
)
def test_each_pipeline_of_a_pair_keeps_its_own_config(
    file: str, change: dict[str, Any], models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny_model(tmp_path / "pair")
    config = tmp_path / "pair" / "t2v" / file
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    image, cpu = picture(tmp_path), pick_device("cpu")

    ours = our_frames(load_model(str(tmp_path / "pair"), models, cpu), "ddim", image, monkeypatch)
    alone = load_model(str(tmp_path / "pair" / "i2v"), models, cpu)

    assert torch.equal(ours, stock_frames(alone, "i2v", "ddim", image))


def test_progress_tells_every_step_and_stage(model: Model, tmp_path: Path) -> None:
    told: list[tuple[Stage, int, int]] = []
    note: Callable[[Stage, int, int], None] = lambda *step: told.append(step)  # noqa: E731

    Renderer(model).render(Clip(plan("ddim"), "a red ball", None, 3), tmp_path / "frames.npy", note)

    assert [done for stage, done, _ in told if stage is Stage.DENOISE] == list(range(STEPS + 1))
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == [Stage.TEXT, Stage.DENOISE, Stage.DECODE]
    assert Latents(torch.zeros(1)).step == 0
