"""Stage two: the text encoder learns to say, at every token, what the whole caption means."""

import random
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import T5Config, T5EncoderModel

from tiny_model.captions import LANGUAGES, Told, nonsense, paraphrase, plain
from tiny_model.codes import ATTRIBUTES, COUNTS, WIDTH, codebook, encode
from tiny_model.draw import trained_scenes
from tiny_model.loop import Schedule, seed_of, train
from tiny_model.tokenizer import build_tokenizer, read_captions
from tiny_model.words import CHINESE, ENGLISH

STAGE, BATCH, RATE = 2, 96, 2e-3
SHARPNESS = 0.1
# Relative positions for the first heads: one back, two back, one on, two on, three on. Which colour belongs to
# which word is a matter of neighbours; from other starts the roles are found late or never.
_NEIGHBOURS = (17, 1, 18, 2, 19)


def train_text_encoder(device: str, checkpoint: Path, steps: int) -> T5EncoderModel:
    tokenizer = build_tokenizer()
    encoder = build_text_encoder(tokenizer).to(device)
    book = codebook().to(device)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)

    def loss(step: int) -> torch.Tensor:
        captions, meaning = draw_captions(step, BATCH)
        meaning = meaning.to(device)
        said = encoder(read_captions(tokenizer, captions).to(device))[0]
        wanted = encode(meaning, book)[:, None]
        return ((said - wanted) ** 2).mean() + SHARPNESS * _confusion(said, meaning, book)

    train(encoder, [optimizer], loss, Schedule(steps, fall_from=steps // 2, warmup=100), checkpoint)
    return encoder


@torch.no_grad()
def build_text_encoder(tokenizer: Any) -> T5EncoderModel:
    torch.manual_seed(STAGE)
    encoder = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=16,
            d_ff=256,
            num_layers=2,
            num_heads=8,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
        )
    )
    bias = encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    bias.mul_(0.1)
    for head, neighbour in enumerate(_NEIGHBOURS):
        bias[neighbour, head] = 7.0
    _start_synonyms_together(encoder.shared.weight, tokenizer.get_vocab())
    return encoder


def read_meaning(said: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    """The nearest value of every attribute: (captions, attributes)."""
    scores = (said.mean(1) @ book.T)[:, : sum(COUNTS)].split(COUNTS, dim=1)
    return torch.stack([score.argmax(1) for score in scores], 1)


def draw_captions(step: int, count: int) -> tuple[list[str], torch.Tensor]:
    rng = torch.Generator().manual_seed(seed_of(STAGE, step))
    chance = random.Random(seed_of(STAGE, step))  # noqa: S311  # a seed, not a secret
    scenes = torch.stack(list(vars(trained_scenes(count, rng)).values()), 1)
    captions, meanings = [], []
    for scene in scenes.tolist():
        caption, meaning = _caption(scene, chance)
        captions.append(caption)
        meanings.append(meaning)
    return captions, torch.tensor(meanings)


def _caption(scene: list[int], chance: random.Random) -> tuple[str, list[int]]:
    nothing = [count - 1 for count in COUNTS]
    language, kind = chance.choice(LANGUAGES), chance.random()
    if kind < 0.03:
        return "", [-1] * len(scene)
    if kind < 0.08:
        return nonsense(language, chance), nothing
    if kind < 0.15:
        return plain(told(scene), language), scene
    meaning = [
        value if chance.random() < said else none for value, said, none in zip(scene, _SAID, nothing, strict=True)
    ]
    if kind < 0.25:
        meaning = [*nothing[:3], scene[3], nothing[4]]
    return paraphrase(told(meaning), language, chance), meaning


_SAID = (0.95, 0.9, 0.95, 0.93, 0.65)


def told(meaning: list[int]) -> Told:
    names = list(ATTRIBUTES.values())
    return Told(*((*names[place], None)[value] for place, value in enumerate(meaning)))


def _confusion(said: torch.Tensor, meaning: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    spoken = (meaning >= 0).all(1)
    scores = (said[spoken] @ book.T)[..., : sum(COUNTS)].split(COUNTS, dim=-1)
    total = said.new_zeros(())
    for place, score in enumerate(scores):
        answer = meaning[spoken, place, None].expand(score.shape[:2])
        total = total + cross_entropy(score.flatten(0, 1) * 0.2, answer.flatten())
    return total


def _start_synonyms_together(table: torch.Tensor, vocabulary: dict[str, int]) -> None:
    table.normal_(0, 1.0)
    for english, chinese in ((ENGLISH.colours, CHINESE.colours), (ENGLISH.shapes, CHINESE.shapes)):
        for value, forms in english.items():
            words = [word.removesuffix("的") for word in (*forms, *chinese[value])]
            centre = torch.randn(table.shape[1])
            for place in {vocabulary[word] for word in words}:
                table[place] = centre + 0.15 * torch.randn(table.shape[1])
