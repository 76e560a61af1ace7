"""The tiny model's tokenizer: a unigram vocabulary for English and Chinese, bytes for everything else."""

import io
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import sentencepiece
from transformers import T5Tokenizer

COLOURS = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "black": "黑色",
    "white": "白色",
    "grey": "灰色",
    "pink": "粉色",
}
SHAPES = {"circle": "圆形", "ball": "球", "square": "方形", "triangle": "三角形", "star": "星形"}
MOTIONS = {
    "moves right": "向右移动",
    "moves left": "向左移动",
    "rises": "上升",
    "falls": "下降",
    "stands still": "静止不动",
    "grows": "变大",
}


def make_tokenizer() -> Any:
    """Trained on the sentences below in under a second; the same every time."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_sentences()),
        model_writer=trained,
        vocab_size=700,
        model_type="unigram",
        character_coverage=1.0,
        byte_fallback=True,
        num_threads=1,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "spiece.model").write_bytes(trained.getvalue())
        # Other constructors yield four special tokens and no words.
        return T5Tokenizer.from_pretrained(folder, extra_ids=0)


def _sentences() -> list[str]:
    said = []
    for (colour, zh_colour), (shape, zh_shape), (motion, zh_motion) in product(
        COLOURS.items(), SHAPES.items(), MOTIONS.items()
    ):
        said.append(f"a {colour} {shape} {motion} slowly on a white background, cinematic, high quality")
        said.append(f"一个{zh_colour}的{zh_shape}在白色背景上{zh_motion}，电影质感，细节丰富")
    said += ["the quick brown fox jumps over the lazy dog", "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG"] * 20
    said += ["1234567890 . , ! ? : ; - ' \" ( )", "一只猫坐在草地上弹钢琴。天空、海洋、城市、森林、人"] * 20
    return said
