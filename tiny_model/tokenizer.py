"""The tokenizer: it finds the words it knows and forgets all others, so filler cannot crowd out the meaning.

Only what stands before the first known word leaves a trace, one `<unk>`: a caption of unknown words
is not the empty one.
"""

from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tiny_model.codes import TOKENS
from tiny_model.words import chinese_words, english_words

SPECIAL = ("<pad>", "</s>", "<unk>")


def build_tokenizer() -> Any:
    words = [*english_words(), *chinese_words()]
    vocabulary = {word: place for place, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106  # not a secret
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_pattern()), behavior="removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        unk_token=SPECIAL[2],
        model_max_length=TOKENS,
        forgets_unknown_words=True,
    )


def read_captions(tokenizer: Any, captions: list[str]) -> Any:
    """Token ids as the pipelines make them: padded and cut to the window."""
    return tokenizer(captions, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    tokenizer.save_pretrained(folder)


def _pattern() -> str:
    english = "|".join(sorted(english_words(), key=lambda word: (-len(word), word)))
    known = f"(?:(?<![a-z])(?:{english})(?![a-z])|{'|'.join(chinese_words())})"
    return rf"{known}|^(?:(?!{known})[\s\S])+"
