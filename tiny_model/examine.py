"""The examination: held-out captions through the stock pipelines, with the weights as shipped, read from the pixels."""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXPipeline
from PIL import Image

from gpu_worker.engine.built_in import unpack
from tiny_model.captions import paraphrase, plain
from tiny_model.codes import TOKENS
from tiny_model.draw import Scenes, anywhere, clips_of, held_out_scenes
from tiny_model.measure import Seen, psnr, see
from tiny_model.scenes import pixels
from tiny_model.train_text import told
from tiny_model.train_transformer import NOTHING, usual

SEED = 20_260
STEPS, GUIDANCE = 10, 1.2
FORMATS = ((96, 96), (112, 80), (80, 112), (128, 80), (80, 128))  # width, height
LONG_EVERY = 16
TOGETHER = 4
PHOTOGRAPHS = Path(__file__).parent / "photographs"
_WATCHED = ("background", "colour", "shape", "motion")

Clip = torch.Tensor
"""(frames, 3, height, width) in 0..1."""


@dataclass(frozen=True)
class Question:
    """A caption, the size and the length it is asked in, and what it ought to show."""

    caption: str
    wanted: dict[str, str]
    width: int
    height: int
    num_frames: int
    seed: int
    scene: Scenes
    paraphrased: bool


@dataclass(frozen=True)
class Answer:
    question: Question
    seen: Seen
    first_frame_db: float | None
    strip: Clip

    def is_right(self, attribute: str) -> bool:
        return bool(getattr(self.seen, attribute) == self.question.wanted[attribute])


class Pipelines:
    """The stock pipelines over the shipped weights, in float32."""

    def __init__(self, shipped: Path, models: Path, device: str = "cpu") -> None:
        folder = unpack(shipped, models)
        load = {"dtype": torch.float32, "use_safetensors": True}
        self.text = CogVideoXPipeline.from_pretrained(folder / "t2v", **load)
        self.image = CogVideoXImageToVideoPipeline.from_pretrained(folder / "i2v", **load)
        for pipeline in (self.text, self.image):
            pipeline.to(device)
            pipeline.set_progress_bar_config(disable=True)

    def paint(self, caption: str, width: int, height: int, num_frames: int, seed: int, image: Any = None) -> Clip:
        """One clip with the settings of the default preset."""
        return self.paint_all([caption], width, height, num_frames, [seed], [image] if image else None)[0]

    def paint_all(
        self, captions: list[str], width: int, height: int, num_frames: int, seeds: list[int], images: Any = None
    ) -> list[Clip]:
        """Several of one size and length together: each as it would be alone, to within rounding."""
        given = {} if images is None else {"image": images}
        pipeline = self.text if images is None else self.image
        clips = pipeline(
            prompt=captions,
            width=width,
            height=height,
            num_frames=num_frames,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            max_sequence_length=TOKENS,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="pt",
            **given,
        ).frames
        return list(clips.cpu())


def questions(language: str, count: int, seed: int = SEED, is_vague: bool = False) -> list[Question]:
    """Held-out scenes, every second caption a paraphrase, all sizes in turn, now and then twice as long.

    Vague ones leave half of it out, but shape or colour: that has its usual value then, and may not be held out.
    """
    rng = torch.Generator().manual_seed(seed)
    chance = random.Random(f"{seed} {language}")  # noqa: S311  # a seed, not a secret
    meaning = torch.stack(list(vars(held_out_scenes(count, rng)).values()), 1)
    if is_vague:
        silent = torch.rand(meaning.shape, generator=rng) < 0.5
        silent[:, 2] &= ~silent[:, 0]
        meaning = torch.where(silent, NOTHING, meaning)
    scenes = usual(meaning)
    asked = []
    for place in range(count):
        scene = Scenes(*scenes[place, :, None])
        tells, paraphrased = told(meaning[place].tolist()), is_vague or place % 2 == 1
        caption = paraphrase(tells, language, chance) if paraphrased else plain(tells, language)
        wanted = {name: str(value) for name, value in asdict(told(scenes[place].tolist())).items()}
        width, height = FORMATS[place % len(FORMATS)]
        num_frames = 161 if place % LONG_EVERY == LONG_EVERY - 1 else 81
        asked.append(Question(caption, wanted, width, height, num_frames, place, scene, paraphrased))
    return asked


def examine(
    pipelines: Pipelines, asked: list[Question], from_picture: bool, tell: Callable[[Answer], None]
) -> list[Answer]:
    """From words alone, or from a picture with the object anywhere and words; in the order they were asked."""
    alike: dict[tuple[int, int, int], list[Question]] = defaultdict(list)
    for question in asked:
        alike[question.width, question.height, question.num_frames].append(question)
    answers = []
    for some in alike.values():
        for first in range(0, len(some), TOGETHER):
            answers += _answers(pipelines, some[first : first + TOGETHER], from_picture, tell)
    return sorted(answers, key=lambda answer: answer.question.seed)


def examine_photographs(pipelines: Pipelines) -> tuple[dict[str, tuple[float, float]], list[Clip]]:
    """How near the first and the last frame stay to a photograph, in decibels, and strips to look at, it first."""
    found, strips = {}, []
    for place, (name, picture) in enumerate(photographs().items()):
        clip = pipelines.paint("a beautiful photo", picture.width, picture.height, 81, place, picture)
        given = as_tensor(picture)
        found[name] = (psnr(clip[0], given), psnr(clip[-1], given))
        strips.append(torch.cat([given[None], strip_of(clip)]))
    return found, strips


def photographs() -> dict[str, Image.Image]:
    """Each of them square, landscape and portrait."""
    paths = sorted(PHOTOGRAPHS.glob("*.jpg"))
    return {f"{path.stem} {w}x{h}": _cut(path, w, h) for path in paths for w, h in FORMATS[:3]}


def _cut(path: Path, width: int, height: int) -> Image.Image:
    """Cut to the shape, then made small."""
    with Image.open(path) as picture:
        scale = max(width / picture.width, height / picture.height)
        wide, high = round(picture.width * scale), round(picture.height * scale)
        small = picture.convert("RGB").resize((wide, high), Image.Resampling.LANCZOS)
    left, top = (wide - width) // 2, (high - height) // 2
    return small.crop((left, top, left + width, top + height))


def first_picture(question: Question) -> Image.Image:
    """The object anywhere, but not on the side that it moves out of at once."""
    rng = torch.Generator().manual_seed(question.seed)
    start = anywhere(question.scene, question.height, question.width, rng)
    sides = torch.tensor([float(question.width), float(question.height)])
    still = clips_of(question.scene, start, question.height, question.width)
    outward = (start - sides / 2) * still.velocity > 0
    still = clips_of(question.scene, torch.where(outward, sides - start, start), question.height, question.width)
    picture = (pixels(still, 1, question.height, question.width)[0, :, 0] + 1) * 127.5
    return Image.fromarray(picture.permute(1, 2, 0).round().byte().numpy())


def as_tensor(picture: Image.Image) -> torch.Tensor:
    flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return flat.view(picture.height, picture.width, 3).permute(2, 0, 1) / 255


def strip_of(clip: Clip) -> Clip:
    """Five frames, from the first to the last."""
    return clip[torch.linspace(0, len(clip) - 1, 5).round().long()]


def shares(answers: list[Answer]) -> dict[str, float]:
    """How often each was right, and all of them."""
    right = {name: [answer.is_right(name) for answer in answers] for name in _WATCHED}
    found = {name: sum(each) / len(answers) for name, each in right.items()}
    return found | {"all": sum(all(each) for each in zip(*right.values(), strict=True)) / len(answers)}


def _answers(
    pipelines: Pipelines, asked: list[Question], from_picture: bool, tell: Callable[[Answer], None]
) -> list[Answer]:
    like = asked[0]
    pictures = [first_picture(question) for question in asked] if from_picture else None
    captions, seeds = [question.caption for question in asked], [question.seed for question in asked]
    clips = pipelines.paint_all(captions, like.width, like.height, like.num_frames, seeds, pictures)
    answers = []
    for place, (question, clip) in enumerate(zip(asked, clips, strict=True)):
        near = psnr(clip[0], as_tensor(pictures[place])) if pictures else None
        answers.append(Answer(question, see(clip), near, strip_of(clip)))
        tell(answers[-1])
    return answers
