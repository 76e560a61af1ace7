"""The local rewriter on a real, tiny instruct model."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gpu_worker.engine.rewrite import LocalRewriter
from video_jobs.rewriting import MAX_REWRITE_CHARACTERS, clean_rewrite

pytestmark = pytest.mark.worker


def instruct_model(folder: Path) -> Path:
    letters = {chr(code): code for code in range(256)}
    inner = Tokenizer(models.BPE(letters, [], unk_token="\x00"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="\x01", eos_token="\x02")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=256, pad_token_id=1, eos_token_id=2, **shape)).save_pretrained(folder)
    return folder


def test_local_model_rewrites_the_same_way_each_time(tmp_path: Path) -> None:
    rewriter = LocalRewriter(str(instruct_model(tmp_path / "instruct")), torch.device("cpu"))

    first, second = rewriter.rewrite("一只猫"), rewriter.rewrite("一只猫")

    assert first == second
    assert 0 < len(first) <= MAX_REWRITE_CHARACTERS
    assert rewriter.name == "local:instruct"


def test_only_text_of_bounded_length_is_used() -> None:
    assert clean_rewrite(' "A cat\n plays  piano." ', "cat") == "A cat plays piano."
    assert clean_rewrite("  ", "cat") == "cat"
    assert len(clean_rewrite("x" * 9999, "cat")) == MAX_REWRITE_CHARACTERS
