"""Prompts: what the tokenizer can read, and what the text encoder makes of it."""

import unicodedata
from typing import Any

import torch

from gpu_worker.engine.model import Model
from video_jobs.errors import ModelUnavailable, PromptNotUnderstood

MAX_UNKNOWN_SHARE = 0.5


def check_tokenizer(tokenizer: Any) -> None:
    """Some ways of loading a T5 tokenizer yield four special tokens and no words, without a warning."""
    if len(tokenizer.get_vocab()) < 100 or unknown_share(tokenizer, "a cat on the grass") > MAX_UNKNOWN_SHARE:
        raise ModelUnavailable("The tokenizer knows no words.")


def unknown_share(tokenizer: Any, prompt: str) -> float:
    """The share of the prompt's letters outside the tokenizer's alphabet."""
    # T5's vocabulary is applied to this form: full-width letters are letters.
    letters = [letter for letter in unicodedata.normalize("NFKC", prompt) if not letter.isspace()]
    known = alphabet(tokenizer)
    if known == "*" or not letters:
        return 0.0
    return sum(letter not in known for letter in letters) / len(letters)


def alphabet(tokenizer: Any) -> str:
    """The letters it knows; `*` when it spells unknown ones out in bytes, or passes over unknown words on purpose."""
    pieces = tokenizer.get_vocab()
    if "<0x41>" in pieces or getattr(tokenizer, "init_kwargs", {}).get("forgets_unknown_words"):
        return "*"
    return "".join(sorted({letter for piece in pieces if not piece.startswith("<") for letter in piece} - {"▁"}))


def check_prompt(model: Model, prompt: str) -> None:
    share = unknown_share(model.tokenizer, prompt)
    if share > MAX_UNKNOWN_SHARE:
        raise PromptNotUnderstood(f"{share:.0%} of its letters are unknown.")


@torch.no_grad()
def encode_prompt(model: Model, prompt: str, max_tokens: int) -> torch.Tensor:
    """Negative and positive embeddings, stacked for guidance. There is no mask: padding is attended, as in training."""
    texts = ("", prompt)
    missing = [text for text in dict.fromkeys(texts) if model.prompts.get((text, max_tokens)) is None]
    made: dict[str, torch.Tensor] = {}
    if missing:
        # The encoder visits only for a prompt that is new.
        with model.at_work(model.text_encoder, model.memory.text) as encoder:
            made = {text: _encode(model, encoder, text, max_tokens) for text in missing}
    for text, embeds in made.items():
        model.prompts.keep((text, max_tokens), embeds)
    known = [made.get(text, model.prompts.get((text, max_tokens))) for text in texts]
    return torch.cat([embeds.to(model.device) for embeds in known if embeds is not None])


def _encode(model: Model, encoder: Any, text: str, max_tokens: int) -> torch.Tensor:
    tokens = model.tokenizer(
        [text],
        padding="max_length",
        max_length=max_tokens,
        truncation=True,
        add_special_tokens=True,
        return_tensors="pt",
    )
    embeds: torch.Tensor = encoder(tokens.input_ids.to(encoder.device))[0]
    return embeds.to(encoder.dtype)
