"""What diffusers lets pass without a word, and the engine does not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import T5Tokenizer

from gpu_worker.engine.__main__ import code_of
from gpu_worker.engine.denoise import Steps
from gpu_worker.engine.geometry import UnrenderableGeometry, geometry_of
from gpu_worker.engine.load import load_model, pick_device
from gpu_worker.engine.model import Model
from gpu_worker.engine.render import Clip, Renderer
from gpu_worker.engine.start import read_first_frame
from gpu_worker.engine.text import alphabet, check_prompt, check_tokenizer
from gpu_worker.engine.tiny import make_tiny_model
from video_jobs.errors import EngineFault, JobCancelled, ModelUnavailable, PromptNotUnderstood, WorkerDiskFull
from video_jobs.job import RenderPlan, Stage

pytestmark = pytest.mark.worker
CPU = pick_device("cpu")


def plan(width: int = 64, height: int = 32, frames: int = 9, scheduler: str = "ddim") -> RenderPlan:
    return RenderPlan(
        **{"checkpoint": "tiny-random", "preset": "speed", "native_fps": 16, "steps": 10, "guidance": 6.0},
        **{"max_text_tokens": 64, "out_width": 64, "out_height": 32, "out_fps": 30, "out_frames": 15},
        **{"width": width, "height": height, "num_frames": frames, "scheduler": scheduler},
    )


def rendered(model: Model, path: Path, asked: RenderPlan, image: Path | None = None, seed: int = 3) -> np.ndarray:
    Renderer(model).render(Clip(asked, "a red ball", image, seed), path, lambda *_: None)
    return np.load(path)


@pytest.mark.parametrize("frames", [9, 17, 25])
@pytest.mark.parametrize("mode", ["t2v", "i2v"])
def test_frame_count_is_exactly_what_was_asked(model: Model, tmp_path: Path, frames: int, mode: str) -> None:
    image = tmp_path / "first.png"
    Image.new("RGB", (64, 32), "red").save(image)

    clip = rendered(model, tmp_path / "f.npy", plan(frames=frames), image if mode == "i2v" else None)

    assert clip.shape == (frames, 32, 64, 3)


@pytest.mark.parametrize(("width", "height", "frames"), [(72, 32, 9), (64, 40, 9), (64, 32, 13), (64, 32, 21)])
def test_geometry_that_would_come_out_otherwise_is_refused(model: Model, width: int, height: int, frames: int) -> None:
    with pytest.raises(UnrenderableGeometry):
        geometry_of(model, model.transformers["t2v"], width, height, frames)


def test_padding_is_added_for_time_patches_and_dropped(model: Model) -> None:
    shape = geometry_of(model, model.transformers["t2v"], 64, 32, 81)

    assert (shape.padding, shape.latent_frames, shape.latent_frames % 2) == (1, 22, 0)


def test_portrait_renders_on_a_landscape_grid(model: Model, tmp_path: Path) -> None:
    assert rendered(model, tmp_path / "f.npy", plan(width=32, height=160)).shape == (9, 160, 32, 3)


@pytest.mark.parametrize("count", [6, 7, 11, 24, 28, 42, 51])
def test_step_counts_that_leave_noise_are_refused(model: Model, count: int) -> None:
    with pytest.raises(ValueError, match="alpha 1"):
        Steps(model.scheduler("dpm", "t2v"), count, torch.Generator(), CPU)


def test_first_frame_is_cropped_never_stretched(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    picture = Image.new("RGB", (300, 100), "blue")
    picture.paste("red", (100, 0, 200, 100))
    picture.save(path)

    frame = np.asarray(read_first_frame(path, geometry_of(model, model.transformers["i2v"], 64, 64, 9)))

    assert (frame[:, :, 0] > 200).mean() > 0.95, "the middle of the wide picture fills the square clip"


def test_image_decides_the_clip(model: Model, tmp_path: Path) -> None:
    clips = []
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 32), colour).save(tmp_path / f"{colour}.png")
        clips.append(rendered(model, tmp_path / f"{colour}.npy", plan(), tmp_path / f"{colour}.png"))

    assert not np.array_equal(*clips)


def test_tokenizer_of_four_tokens_is_refused(tmp_path: Path, model: Model) -> None:
    check_tokenizer(model.tokenizer)
    with pytest.raises(ModelUnavailable):
        check_tokenizer(T5Tokenizer())


def test_tiny_tokenizer_knows_english_and_chinese(model: Model) -> None:
    assert alphabet(model.tokenizer) == "*"
    for prompt in ("a red circle moves right on a blue background", "一个红色的圆形在白色背景上向右移动"):
        ids = model.tokenizer(prompt).input_ids
        assert len(ids) < 40
        assert model.tokenizer.unk_token_id not in ids
        assert not any(piece.startswith("<0x") for piece in model.tokenizer.convert_ids_to_tokens(ids))


def test_prompt_of_unknown_letters_is_refused_before_the_device_works(model: Model) -> None:
    class English:
        def get_vocab(self) -> dict[str, int]:
            return {f"▁{a}{b}": 0 for a in "abcdefghij" for b in "klmnopqrstuvwxyz"}

    model.tokenizer = English()
    check_prompt(model, "a red ball")
    check_prompt(model, "ａ　ｒｅｄ　ｂａｌｌ")
    with pytest.raises(PromptNotUnderstood):
        check_prompt(model, "一只猫在弹钢琴")


def test_cancel_raises_within_a_step_and_leaves_nothing_behind(model: Model, models: Path, tmp_path: Path) -> None:
    steps: list[int] = []

    def cancel(stage: Stage, done: int, total: int) -> None:
        if stage is Stage.DENOISE:
            steps.append(done)
            if done == 3:
                raise JobCancelled

    with pytest.raises(JobCancelled):
        Renderer(model).render(Clip(plan(scheduler="dpm"), "a red ball", None, 3), tmp_path / "x.npy", cancel)

    assert steps == [0, 1, 2, 3]
    after = rendered(model, tmp_path / "a.npy", plan(scheduler="dpm"))
    fresh = rendered(load_model("tiny-random", models, CPU), tmp_path / "b.npy", plan(scheduler="dpm"))
    assert np.array_equal(after, fresh)


@pytest.mark.parametrize("mode", ["t2v", "i2v"])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 64), (64, 80), (128, 64), (64, 128)])
def test_tiling_preset_renders_the_size_that_was_asked(
    models: Path, tmp_path: Path, width: int, height: int, mode: str
) -> None:
    model = load_model("tiny-random", models, CPU, memory="24")
    image = tmp_path / "first.png"
    Image.new("RGB", (200, 200), "red").save(image)

    clip = rendered(model, tmp_path / "f.npy", plan(width, height), image if mode == "i2v" else None)

    assert clip.shape == (9, height, width, 3)
    assert not model.vae.use_tiling, "only while decoding"


def test_full_disk_is_told_as_such() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space") as caught:
        full.write(b"frame")

    assert code_of(caught.value) == WorkerDiskFull.code
    assert code_of(OSError("other")) == EngineFault.code


def test_seed_alone_decides_the_noise(model: Model, tmp_path: Path) -> None:
    same = [rendered(model, tmp_path / f"{n}.npy", plan(scheduler="dpm"), seed=5) for n in range(2)]
    other = rendered(model, tmp_path / "other.npy", plan(scheduler="dpm"), seed=6)

    assert np.array_equal(*same)
    assert not np.array_equal(same[0], other)


def test_tiny_model_is_the_same_every_time(models: Path, tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "again")

    assert load_model(str(tmp_path / "again"), models, CPU).checksum == load_model("tiny-random", models, CPU).checksum


def test_checksum_covers_weights_behind_a_link(models: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(models / "tiny-1" / "t2v", home)
    (home / "vae").rename(tmp_path / "vae")
    (home / "vae").symlink_to(tmp_path / "vae")
    before = load_model(str(home), models, CPU).checksum
    weights = next((tmp_path / "vae").glob("*.safetensors"))
    save_file({name: part + 1 for name, part in load_file(weights).items()}, weights, metadata={"format": "pt"})

    assert load_model(str(home), models, CPU).checksum != before


def published_layout(model: Model, folder: Path) -> None:
    """Sharded bfloat16 transformers, with text encoder and VAE only linked into the second pipeline."""
    for mode, transformer in model.transformers.items():
        home = folder / mode
        transformer.to(torch.bfloat16).save_pretrained(home / "transformer", max_shard_size="100KB")
        model.vae.to(torch.bfloat16).save_pretrained(home / "vae")
        model.text_encoder.to(torch.bfloat16).save_pretrained(home / "text_encoder", max_shard_size="60KB")
        model.tokenizer.save_pretrained(home / "tokenizer")
        (home / "scheduler").mkdir()
        (home / "scheduler" / "scheduler_config.json").write_text(json.dumps(model.scheduler_configs[mode]))
    for part in ("vae", "text_encoder"):
        shutil.rmtree(folder / "i2v" / part)
        (folder / "i2v" / part).symlink_to(folder / "t2v" / part)


def test_sharded_bf16_folder_in_the_published_layout_renders_both_modes(
    model: Model, models: Path, tmp_path: Path
) -> None:
    published_layout(model, tmp_path / "weights")
    Image.new("RGB", (64, 32), "red").save(tmp_path / "first.png")

    loaded = load_model(str(tmp_path / "weights"), models, CPU)

    assert len(list((tmp_path / "weights/t2v/transformer").glob("*.safetensors"))) > 1
    assert rendered(loaded, tmp_path / "t.npy", plan()).std() > 0
    assert rendered(loaded, tmp_path / "i.npy", plan(), tmp_path / "first.png").std() > 0


def test_one_pipeline_alone_loads_and_says_what_it_cannot_do(models: Path, tmp_path: Path) -> None:
    loaded = load_model(str(models / "tiny-1" / "t2v"), models, CPU)
    Image.new("RGB", (64, 32), "red").save(tmp_path / "first.png")

    assert list(loaded.transformers) == ["t2v"]
    with pytest.raises(ModelUnavailable, match="i2v"):
        rendered(loaded, tmp_path / "i.npy", plan(), tmp_path / "first.png")


def test_pickled_weights_are_not_read(models: Path, tmp_path: Path) -> None:
    home = tmp_path / "pickled"
    shutil.copytree(models / "tiny-1" / "t2v", home)
    for weights in (home / "transformer").glob("*.safetensors"):
        weights.rename(weights.with_suffix(".bin"))

    with pytest.raises(ModelUnavailable, match="safetensors"):
        load_model(str(home), models, CPU)


def test_folder_without_a_pipeline_is_named(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="diffusers layout"):
        load_model(str(tmp_path), models, CPU)
