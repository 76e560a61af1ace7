from pathlib import Path

import pytest
from pydantic import ValidationError

from video_jobs.catalogue import load_catalogue
from video_jobs.cost import device_seconds, forward_tflop, tokens
from video_jobs.job import Quality, RenderPlan, VideoSpec


def spec(width: int, height: int, **changes: object) -> VideoSpec:
    values = {"model": "cogvideox-2", "width": width, "height": height, "fps": 30, "duration_s": 5, "seed": 1}
    return VideoSpec.model_validate(values | changes)


@pytest.mark.parametrize("checkpoint", load_catalogue().checkpoints)
def test_native_geometry_is_what_the_engine_can_render(checkpoint: str) -> None:
    native = load_catalogue().checkpoints[checkpoint]

    assert all(side % 16 == 0 for size in native.native_sizes for side in size if size != (720, 480))
    assert all(frames % 8 == 1 for frames in native.frames.values())
    assert set(native.presets) == set(Quality)


@pytest.mark.parametrize(
    ("wanted", "native"), [((1920, 1080), (1360, 768)), ((1080, 1920), (768, 1360)), ((1024, 1024), (768, 768))]
)
def test_plan_takes_the_native_size_of_the_nearest_shape(wanted: tuple[int, int], native: tuple[int, int]) -> None:
    plan = load_catalogue().plan(spec(*wanted), "cogvideox-1.5-5b")

    assert (plan.width, plan.height) == native
    assert (plan.out_width, plan.out_height) == wanted


def test_plan_delivers_exactly_the_asked_frames() -> None:
    plan = load_catalogue().plan(spec(1920, 1080, fps=60, duration_s=10), "tiny")

    assert (plan.num_frames, plan.out_frames) == (161, 600)


def test_digest_changes_with_anything_that_decides_the_pixels() -> None:
    catalogue = load_catalogue()
    speed = catalogue.plan(spec(1920, 1080), "tiny")
    quality = catalogue.plan(spec(1920, 1080, quality="quality"), "tiny")

    assert speed.digest() == catalogue.plan(spec(1920, 1080), "tiny").digest()
    assert speed.digest() != quality.digest()


def test_predicted_work_agrees_with_the_published_architecture() -> None:
    catalogue = load_catalogue()
    checkpoint = catalogue.checkpoints["cogvideox-1.5-5b"]
    plan = catalogue.plan(spec(1360, 768, quality="quality"), "cogvideox-1.5-5b")

    assert tokens(checkpoint, plan) == 45_106
    assert forward_tflop(checkpoint, plan) == pytest.approx(1479, rel=0.01)


def test_longer_clips_cost_more_than_twice() -> None:
    catalogue = load_catalogue()
    checkpoint = catalogue.checkpoints["cogvideox-1.5-5b"]
    short, long = (catalogue.plan(spec(1360, 768, duration_s=s), "cogvideox-1.5-5b") for s in (5, 10))

    assert device_seconds(checkpoint, long) > 2 * device_seconds(checkpoint, short)


def test_an_operators_file_adds_and_replaces_entries(tmp_path: Path) -> None:
    extra = tmp_path / "own.toml"
    extra.write_text('[models.ours]\nsizes = ["1280x720"]\n')

    catalogue = load_catalogue(extra)

    assert catalogue.models["ours"].sizes == ("1280x720",)
    assert "cogvideox-2" in catalogue.models


@pytest.mark.parametrize("line", ["steps = 17", 'scheduler = "euler"', "gidance = 6"])
def test_a_preset_that_would_spoil_the_clip_is_refused(tmp_path: Path, line: str) -> None:
    good = {"steps": "steps = 10", "scheduler": 'scheduler = "dpm"', "guidance": "guidance = 6"}
    good[line.split(" ")[0]] = line
    extra = tmp_path / "own.toml"
    extra.write_text(
        '[checkpoints.own]\nsizes=["64x64"]\nframes={5=81}\nfps=16\ntext_tokens=64\nlayers=2\nhidden=64\npatch_t=2\n'
        "tflops=1.0\n[checkpoints.own.presets.speed]\n" + "\n".join(good.values())
    )

    with pytest.raises(ValidationError):
        load_catalogue(extra)


OWN = """
[models."cogvideox-2:interior"]
like = "cogvideox-2"
durations = [5]
lora = { checkpoint = "cogvideox-1.5-5b", file = "interior.safetensors", sha256 = "%s", scale = 0.8 }
""" % ("a" * 64)


def test_an_adapter_is_a_model_code_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    catalogue = load_catalogue(tmp_path / "own.toml")
    code = catalogue.models["cogvideox-2:interior"]

    plan = catalogue.plan(spec(1360, 768, model="cogvideox-2:interior"), "cogvideox-1.5-5b")

    assert (code.sizes, code.durations) == (catalogue.models["cogvideox-2"].sizes, (5,))
    assert code.lora is not None
    assert code.lora.file == tmp_path / "interior.safetensors"
    assert (plan.adapter, plan.adapter_sha256, plan.adapter_scale) == ("cogvideox-2:interior", "a" * 64, 0.8)
    assert plan.digest() != catalogue.plan(spec(1360, 768), "cogvideox-1.5-5b").digest()
    assert catalogue.can_serve(code, "cogvideox-1.5-5b")
    assert not catalogue.can_serve(code, "tiny")


@pytest.mark.parametrize("like", ["cogvideox-9", "cogvideox-2:interior:not"])
def test_like_must_name_a_model_code(tmp_path: Path, like: str) -> None:
    (tmp_path / "own.toml").write_text(f'[models.ours]\nlike = "{like}"\n')

    with pytest.raises(ValueError, match="no such model code"):
        load_catalogue(tmp_path / "own.toml")


@pytest.mark.parametrize("checkpoint", load_catalogue().checkpoints)
def test_quality_is_exact_and_complete(checkpoint: str) -> None:
    plan = load_catalogue().plan(spec(720, 480, quality="quality"), checkpoint)

    assert plan.steps == 50
    assert (plan.cache_threshold, plan.precision, plan.approximate_attention) == (0, "native", False)


@pytest.mark.parametrize("line", ["cache_threshold = 0.1", 'precision = "int8"', "approximate_attention = true"])
def test_a_quality_preset_that_approximates_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "own.toml").write_text(
        '[checkpoints.own]\nsizes=["64x64"]\nframes={5=81}\nfps=16\ntext_tokens=64\nlayers=2\nhidden=64\npatch_t=2\n'
        'tflops=1.0\n[checkpoints.own.presets.quality]\nsteps = 50\nscheduler = "dpm"\nguidance = 6\n' + line
    )

    with pytest.raises(ValidationError, match="exact"):
        load_catalogue(tmp_path / "own.toml")


def test_a_plan_of_before_these_fields_is_exact() -> None:
    plan = load_catalogue().plan(spec(1920, 1080), "tiny")
    old = plan.model_dump(exclude={"cache_threshold", "cache_max_skips", "precision", "approximate_attention"})

    assert RenderPlan.model_validate(old) == plan


def own_checkpoint(**changes: str) -> str:
    """One that is right, but for what is changed."""
    words = {"sizes": '["64x64"]', "frames": "{ 5 = 81 }", "fps": "16", "text_tokens": "64", "layers": "2"}
    words |= {"hidden": "64", "patch_t": "2", "tflops": "1.0", "presets.speed": PRESET, "presets.quality": PRESET}
    return "[checkpoints.own]\n" + "\n".join(f"{name} = {word}" for name, word in (words | changes).items() if word)


PRESET = '{ steps = 50, scheduler = "dpm", guidance = 6 }'


def own_code(lora: str) -> str:
    words = f'checkpoint = "tiny", file = "a", sha256 = "{"a" * 64}", {lora}'
    return f'[models.ours]\nlike = "cogvideox-2"\nlora = {{ {words} }}'


def test_a_right_checkpoint_is_taken(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(own_checkpoint())

    found = load_catalogue(tmp_path / "own.toml").checkpoints["own"]

    assert found.native_sizes == ((64, 64),)
    assert found.presets["quality"].steps == 50


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (own_checkpoint(sizes='["1360*768"]'), "sizes"),
        (own_checkpoint(sizes='["720x488"]'), "16"),
        (own_checkpoint(sizes="[]"), "sizes"),
        (own_checkpoint(frames="{ 5 = 80 }"), "8N"),
        (own_checkpoint(frames="{}"), "frames"),
        (own_checkpoint(fps="0"), "fps"),
        (own_checkpoint(hidden="-1"), "hidden"),
        (own_checkpoint(tflops="inf"), "finite"),
        (own_checkpoint(**{"presets.quality": ""}), "quality"),
        (own_checkpoint(**{"presets.speed": "", "presets.fast": PRESET}), "speed"),
        (own_checkpoint(**{"presets.speed": '{ steps = 50, scheduler = "dpm", guidance = inf }'}), "finite"),
        (own_checkpoint(repos='{ T2V = "Own-5b" }'), "t2v"),
        (own_checkpoint(repos='{ t2v = "Own-5b" }'), "image"),
        (own_checkpoint(repos='{ t2v = "A", i2v = "B" }', revisions='{ t2w = "v1" }'), "t2v"),
        (own_checkpoint(image="false", repos='{ t2v = "A" }', revisions='{ i2v = "v1" }'), "revisions"),
        ('[models.ours]\nsizes = ["1280*720"]', "sizes"),
        (own_code("scale = nan"), "finite"),
        (own_code("scale = 1.0").replace("tiny", "tinny"), "tinny"),
        ("models = 3", "models"),
        ("[models]\nours = 3", "ours"),
        ('[models.a]\nlike = "b"\n[models.b]\nlike = "a"', "no such model code"),
    ],
)
def test_what_could_only_fail_later_is_refused_at_once(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "own.toml").write_text(text)

    with pytest.raises(ValueError, match=why):
        load_catalogue(tmp_path / "own.toml")


def test_a_code_may_be_like_one_that_is_like_another(tmp_path: Path) -> None:
    text = (
        '[models."house:interior"]\nlike = "house"\nfps = [30]\n[models.house]\nlike = "cogvideox-2"\ndurations = [5]'
    )
    (tmp_path / "own.toml").write_text(text)

    code = load_catalogue(tmp_path / "own.toml").models["house:interior"]

    assert (code.fps, code.durations, code.sizes) == ((30,), (5,), load_catalogue().models["cogvideox-2"].sizes)
