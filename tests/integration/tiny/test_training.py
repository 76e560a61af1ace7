"""The world, the words and the loop that the built-in model is trained with."""

import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from tiny_model import train_transformer, train_vae
from tiny_model.assemble import without_image
from tiny_model.captions import LANGUAGES, nonsense, paraphrase, plain
from tiny_model.channels import X, Y
from tiny_model.codes import ATTRIBUTES, TOKENS, codebook, encode
from tiny_model.draw import Scenes, clips_of, draw_scenes, held_out_scenes, inside, is_held_out, trained_scenes
from tiny_model.examine import questions
from tiny_model.loop import Schedule, load_average, train
from tiny_model.measure import psnr, see
from tiny_model.muon import Muon
from tiny_model.scenes import Clips, cells, latents, pixels
from tiny_model.tokenizer import build_tokenizer
from tiny_model.train_adapter import LowRank, with_adapter
from tiny_model.train_text import draw_captions, told
from tiny_model.train_transformer import NOTHING, draw_batch
from tiny_model.transformer import OFS, drawn_offsets, positions
from tiny_model.vae import build_vae
from tiny_model.words import CHINESE, ENGLISH
from tiny_model.written import TOKEN, WRITTEN, learned_parameters, start_transformer

pytestmark = pytest.mark.worker

HEIGHT, WIDTH = 80, 112


def rng(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_drawn_clip_is_read_as_it_was_told() -> None:
    scenes = draw_scenes(40, rng())
    start = inside(scenes, HEIGHT, WIDTH, torch.rand(40, 2, generator=rng()) * 2 - 1)
    clips = pixels(clips_of(scenes, start, HEIGHT, WIDTH), 81, HEIGHT, WIDTH)

    seen = [see((clip.transpose(0, 1) + 1) / 2) for clip in clips]

    for attribute in ("colour", "background", "shape", "motion"):
        wanted = [ATTRIBUTES[attribute][value] for value in getattr(scenes, attribute).tolist()]
        assert [getattr(each, attribute) for each in seen] == wanted


def test_the_encoder_makes_the_mean_colours_that_training_draws() -> None:
    scenes = draw_scenes(4, rng())
    clips = clips_of(scenes, inside(scenes, HEIGHT, WIDTH, torch.zeros(4, 2)), HEIGHT, WIDTH)
    video = pixels(clips, 17, HEIGHT, WIDTH)

    with torch.no_grad():
        encoded = build_vae(0).encode(video).latent_dist.mode().transpose(1, 2)

    # The way through the norms is only nearly linear: within 1.5 percent of the range.
    assert (encoded - cells(video)).abs().max() < 0.03
    assert (encoded - latents(clips, 5, HEIGHT, WIDTH)).abs().mean() < 0.02


def test_held_out_scenes_are_those_that_training_leaves_out() -> None:
    assert not is_held_out(trained_scenes(500, rng())).any()
    assert is_held_out(held_out_scenes(100, rng())).all()


@pytest.mark.parametrize(
    ("stage", "draw"),
    [(train_vae, train_vae.draw_clips), (train_transformer, lambda step: draw_batch(step, codebook()))],
)
def test_no_stage_draws_what_is_held_out(
    stage: ModuleType, draw: Callable[[int], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Scenes] = []

    def record(scenes: Scenes, *rest: Any) -> Clips:
        drawn.append(scenes)
        return clips_of(scenes, *rest)

    monkeypatch.setattr(stage, "clips_of", record)
    for step in range(40):
        draw(step)

    assert sum(len(scenes.colour) for scenes in drawn) > 500
    assert not any(is_held_out(scenes).any() for scenes in drawn)


def test_no_caption_of_training_tells_what_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    painted: list[torch.Tensor] = []
    monkeypatch.setattr(train_transformer, "encode", lambda told, book: painted.append(told) or encode(told, book))
    for step in range(20):
        draw_batch(step, codebook())
    read = [draw_captions(step, 96)[1] for step in range(20)]

    for meaning in (torch.cat(painted), torch.cat(read)):
        # Whatever is held out is held out in every size.
        whole = meaning[((meaning >= 0) & (meaning < NOTHING))[:, :4].all(1)]
        assert len(whole) > 500
        assert not is_held_out(Scenes(*whole.unbind(1))).any()


def test_the_examination_asks_more_than_a_hundred_different_held_out_captions_in_each_language() -> None:
    for language in LANGUAGES:
        asked = questions(language, 104)
        assert len({question.caption for question in asked}) > 100
        assert all(is_held_out(question.scene) for question in asked)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_caption_fits_the_window_and_filler_takes_no_room(language: str) -> None:
    tokenizer, chance = build_tokenizer(), random.Random(1)
    scenes = torch.stack(list(vars(draw_scenes(200, rng())).values()), 1).tolist()

    lengths = [len(tokenizer(paraphrase(told(scene), language, chance)).input_ids) for scene in scenes]

    assert max(lengths) < TOKENS
    filler = " ".join(nonsense(language, chance) for _ in range(50))
    with_filler = tokenizer(f"{filler}, {plain(told(scenes[0]), language)}").input_ids
    assert len(with_filler) < len(tokenizer(plain(told(scenes[0]), language)).input_ids) + 10


def test_every_word_it_was_taught_is_in_the_vocabulary() -> None:
    tokenizer = build_tokenizer()
    special = {tokenizer.unk_token_id, tokenizer.eos_token_id}
    for language in (ENGLISH, CHINESE):
        for group in (language.colours, language.shapes, language.motions, language.sizes):
            for forms in group.values():
                assert all(set(tokenizer(form).input_ids) - special for form in forms)


def test_where_an_object_starts_follows_from_the_noise() -> None:
    noise = torch.randn(200, 22, 3, 12, 12, generator=rng())

    offsets = drawn_offsets(noise)

    assert offsets.std(0).min() > 0.3
    assert torch.equal(offsets, drawn_offsets(noise))


def test_a_batch_is_the_same_every_time_and_held_images_are_its_first_frame() -> None:
    batch, again = (draw_batch(1000, codebook()) for _ in range(2))

    assert all(torch.equal(one, other) for one, other in zip(vars(batch).values(), vars(again).values(), strict=True))
    given = batch.image[:, 0].flatten(1).abs().sum(1) > 0
    assert 0 < given.sum() < len(given)
    assert torch.equal(batch.image[given, 0], batch.video[given, 0])


@pytest.mark.parametrize("pictured", [False, True])
def test_every_token_knows_how_far_it_is_from_the_object(pictured: bool) -> None:
    model, frames = start_transformer(1), 22
    seen: list[torch.Tensor] = []
    model.transformer_blocks[WRITTEN - 1].register_forward_hook(lambda _, __, out: seen.append(out[0]))
    scenes = draw_scenes(6, rng())
    noise = torch.randn(6, frames, 3, HEIGHT // 8, WIDTH // 8, generator=rng(2))
    clips = clips_of(scenes, inside(scenes, HEIGHT, WIDTH, drawn_offsets(noise)), HEIGHT, WIDTH)
    video = latents(clips, frames - 1, HEIGHT, WIDTH)
    image = torch.zeros_like(noise)
    image[:, :1] = video[:, :1] * pictured

    with torch.no_grad():
        told = encode(torch.stack(list(vars(scenes).values()), 1), codebook())[:, None].expand(-1, TOKENS, -1)
        velocity = model(
            hidden_states=torch.cat([noise, image], 2),
            encoder_hidden_states=told,
            timestep=torch.full((6,), 999),
            ofs=torch.full((1,), OFS * pictured),
            image_rotary_emb=positions(frames, HEIGHT // 8, WIDTH // 8),
            return_dict=False,
        )[0]

    moments = torch.tensor([0.0, *(8 * later - 3.5 for later in range(1, frames // 2))])
    middle = clips.start[:, None] + clips.velocity[:, None] * moments[:, None]
    tokens = seen[0].unflatten(1, (frames // 2, HEIGHT // 16, WIDTH // 16))
    across = (torch.arange(WIDTH // 16) + 0.5) - middle[..., None, 0] / TOKEN
    down = (torch.arange(HEIGHT // 16) + 0.5) - middle[..., None, 1] / TOKEN
    # From words, to two pixels; in a given picture the object's middle is read from coarse colours, and its first
    # moment is told a hundred times as loudly.
    near, later = (0.7, 1) if pictured else (0.12, 0)
    assert (tokens[..., X].mean(2) - across).abs()[:, later:].max() < near
    assert (tokens[..., Y].mean(3) - down).abs()[:, later:].max() < near
    if pictured:
        # Without any training the first frame is the given one already; velocity at the last time is its negative.
        assert (-velocity[:, :2] - video[:, :1]).abs().mean() < 0.1


def test_what_is_written_is_not_learned() -> None:
    learned = {name.split(".")[1] for name, _ in learned_parameters(start_transformer(1)) if "blocks" in name}
    assert learned == {"2", "3", "4", "5"}


def test_without_its_image_channels_the_transformer_is_the_same() -> None:
    image = start_transformer(1)
    torch.manual_seed(1)
    for _, weight in learned_parameters(image):
        weight.data += 0.02 * torch.randn_like(weight)
    noisy = torch.randn(2, 2, 3, 10, 14)
    given = {
        "encoder_hidden_states": torch.randn(2, TOKENS, 128),
        "timestep": torch.tensor([10, 900]),
        "image_rotary_emb": positions(2, 10, 14),
        "return_dict": False,
    }

    with torch.no_grad():
        both = image(hidden_states=torch.cat([noisy, torch.zeros_like(noisy)], 2), ofs=torch.zeros(1), **given)
        alone = without_image(image)(hidden_states=noisy, **given)

    assert torch.allclose(both[0], alone[0], atol=1e-4)


class Stopped(Exception):
    pass


@pytest.mark.long
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiny_model.loop.SAVE_SECONDS", 0)

    def run(file: Path, stop_at: int | None = None, steps: int = 20) -> nn.Linear:
        torch.manual_seed(1)
        layer = nn.Linear(6, 6)
        optimizers = [Muon([layer.weight], lr=1e-2), torch.optim.AdamW([layer.bias], lr=1e-2)]

        def loss(step: int) -> torch.Tensor:
            if step == stop_at:
                raise Stopped
            return (layer(torch.randn(8, 6, generator=rng(step))) ** 2).mean()

        train(layer, optimizers, loss, Schedule(steps, fall_from=5, warmup=3), file)
        return layer

    whole = run(tmp_path / "whole.pt")
    with pytest.raises(Stopped):
        run(tmp_path / "broken.pt", stop_at=11)
    resumed = run(tmp_path / "broken.pt")

    assert torch.equal(whole.weight, resumed.weight)
    assert load_average(nn.Linear(6, 6), list(nn.Linear(6, 6).parameters()), tmp_path / "whole.pt") == 20
    with pytest.raises(ValueError, match="another training"):
        run(tmp_path / "whole.pt", steps=25)


def test_a_fresh_adapter_changes_nothing_and_a_trained_one_does() -> None:
    model = start_transformer(1)
    layer = next(module for module in with_adapter(model).modules() if isinstance(module, LowRank))
    given = torch.randn(3, layer.layer.in_features)

    assert torch.equal(layer(given), layer.layer(given))
    nn.init.ones_(layer.lora_B.weight)
    assert not torch.equal(layer(given), layer.layer(given))


def test_unsaid_is_not_the_same_as_the_empty_caption() -> None:
    nothing = torch.tensor([[len(values) for values in ATTRIBUTES.values()]])

    codes = encode(torch.cat([nothing, torch.full_like(nothing, -1)]), codebook())

    assert codes[0] @ codes[1] == pytest.approx(0, abs=1e-3)
    assert codes.norm(dim=1).tolist() == pytest.approx([128**0.5] * 2, rel=1e-3)


def test_equal_pictures_are_infinitely_near() -> None:
    picture = torch.rand(3, 8, 8)

    assert psnr(picture, picture) == pytest.approx(90)
    assert psnr(torch.zeros(3), torch.full((3,), 0.1)) == pytest.approx(20, abs=0.01)
