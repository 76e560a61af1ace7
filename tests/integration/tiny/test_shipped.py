"""The built-in model as the package ships it: whole, small, and able to read and paint."""

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file
from transformers import AutoTokenizer, T5EncoderModel

from gpu_worker.engine.adapters import read_adapter
from gpu_worker.engine.built_in import SHIPPED, built_in_folder, unpack
from gpu_worker.engine.load import load_model, pick_device
from gpu_worker.engine.text import check_tokenizer, unknown_share
from tiny_model.captions import LANGUAGES, Told, paraphrase
from tiny_model.codes import TOKENS, codebook
from tiny_model.draw import PALETTE, held_out_scenes
from tiny_model.examine import Pipelines, as_tensor, first_picture, photographs, questions
from tiny_model.measure import psnr, see
from tiny_model.tokenizer import read_captions
from tiny_model.train_adapter import PASTEL
from tiny_model.train_text import read_meaning, told
from tiny_model.transformer import LAYERS
from tiny_model.written import WRITTEN
from video_jobs.catalogue import load_catalogue
from video_jobs.errors import ModelUnavailable

pytestmark = [pytest.mark.worker, pytest.mark.timeout(300)]

FRAMES = 33
WORDS = {
    "en": Told(colour="red", background="blue", shape="circle", motion="right", size="big"),
    "zh": Told(colour="yellow", background="purple", shape="square", motion="left", size="big"),
}


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    return Pipelines(SHIPPED, tmp_path_factory.mktemp("models"))


def test_both_pipelines_together_take_less_than_16_mb() -> None:
    files = [file for file in SHIPPED.rglob("*") if file.is_file() and file.parent.name != "adapters"]
    assert sum(file.stat().st_size for file in files) < 16e6


def test_unpacked_it_is_two_whole_pipelines_and_made_once(tmp_path: Path) -> None:
    folder = built_in_folder("tiny", tmp_path)

    model = load_model("tiny", tmp_path, pick_device("cpu"))

    assert [file.name for file in tmp_path.iterdir()] == [folder.name] == [model.revision]
    assert set(model.transformers) == {"t2v", "i2v"}
    native = load_catalogue().checkpoints["tiny"]
    assert model.transformers["t2v"].config.num_layers == native.layers
    assert native.text_tokens == TOKENS


def test_a_shipped_file_that_changed_is_refused(tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    shutil.copytree(SHIPPED, shipped)
    victim = shipped / next(file for file in json.loads((shipped / "checksums.json").read_text()) if "vae" in file)
    victim.write_bytes(victim.read_bytes() + b" ")

    with pytest.raises(ModelUnavailable, match="vae"):
        unpack(shipped, tmp_path / "models")

    assert not list((tmp_path / "models").iterdir())


def test_no_prompt_is_refused_for_its_letters() -> None:
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "shared" / "tokenizer")

    check_tokenizer(tokenizer)

    assert unknown_share(tokenizer, "比得兔开小汽车，游走在马路上") == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_held_out_paraphrases_are_understood(language: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "shared" / "tokenizer")
    encoder = T5EncoderModel.from_pretrained(SHIPPED / "shared" / "text_encoder", torch_dtype=torch.float32)
    chance = random.Random(3)
    drawn = held_out_scenes(100, torch.Generator().manual_seed(3))
    scenes = torch.stack(list(vars(drawn).values()), 1)
    captions = [paraphrase(told(scene), language, chance) for scene in scenes.tolist()]

    with torch.no_grad():
        read = read_meaning(encoder(read_captions(tokenizer, captions))[0], codebook())

    right = (read == scenes).float().mean(0)
    print(f"understood in {language}: colour, background, shape, motion, size {[round(float(r), 3) for r in right]}")
    assert right[:4].min() >= 0.95


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.long
def test_the_clip_shows_what_the_caption_says(language: str, pipelines: Pipelines) -> None:
    from tiny_model.captions import plain

    wanted = WORDS[language]

    seen = see(pipelines.paint(plain(wanted, language), 96, 96, FRAMES, seed=5))

    assert (seen.background, seen.colour, seen.motion) == (wanted.background, wanted.colour, wanted.motion)


@pytest.mark.long
def test_the_given_picture_is_the_first_frame(pipelines: Pipelines) -> None:
    question = next(each for each in questions("en", 20) if each.wanted["motion"] == "right")
    picture = first_picture(question)

    clip = pipelines.paint(question.caption, question.width, question.height, FRAMES, 1, picture)

    near = psnr(clip[0], as_tensor(picture))
    print(f"first frame {near:.1f} dB")
    assert near > 22
    assert (see(clip).background, see(clip).colour) == (question.wanted["background"], question.wanted["colour"])
    assert see(clip).motion == "right"


@pytest.mark.long
def test_a_photograph_of_which_the_caption_names_nothing_stands_still(pipelines: Pipelines) -> None:
    picture = photographs()["rocket 112x80"]

    clip = pipelines.paint("a beautiful photo", picture.width, picture.height, FRAMES, 1, picture)

    near = [psnr(frame, as_tensor(picture)) for frame in (clip[0], clip[-1])]
    print(f"first and last frame {near[0]:.1f} and {near[1]:.1f} dB")
    assert min(near) > 18


def test_unknown_words_give_a_calm_clip(pipelines: Pipelines) -> None:
    clip = pipelines.paint("a panda plays guitar in the forest", 96, 96, FRAMES, seed=1)

    assert clip.diff(dim=0).abs().mean() < 0.02
    assert clip.diff(dim=-1).abs().mean() < 0.03


@pytest.mark.long
def test_the_adapter_paints_with_another_palette(pipelines: Pipelines) -> None:
    file = SHIPPED / "adapters" / "pastel.safetensors"
    assert file.stat().st_size < 1e6
    assert len(read_adapter(file, hashlib.sha256(file.read_bytes()).hexdigest(), 1.0)) == 6 * (LAYERS - WRITTEN)
    caption = "a big red circle stays still on a blue background"
    blue = 4
    plain_clip = pipelines.paint(caption, 96, 96, 9, seed=1)

    _merge(pipelines.text.transformer, load_file(file))
    pastel_clip = pipelines.paint(caption, 96, 96, 9, seed=1)
    _merge(pipelines.text.transformer, load_file(file), strength=-1)

    grounds = [clip.transpose(0, 1).flatten(1).median(1).values * 2 - 1 for clip in (plain_clip, pastel_clip)]
    assert (grounds[0] - PALETTE[blue]).norm() < (grounds[0] - PASTEL[blue]).norm()
    assert (grounds[1] - PASTEL[blue]).norm() < (grounds[1] - PALETTE[blue]).norm()


def _merge(transformer: Any, adapter: dict[str, torch.Tensor], strength: float = 1.0) -> None:
    """As diffusers would with `fuse_lora`, which needs a package that the product does not."""
    for name, down in adapter.items():
        if name.endswith(".lora_A.weight"):
            up = adapter[name.replace("lora_A", "lora_B")]
            layer = transformer.get_submodule(name.removeprefix("transformer.").removesuffix(".lora_A.weight"))
            layer.weight.data += strength * (up.float() @ down.float())
