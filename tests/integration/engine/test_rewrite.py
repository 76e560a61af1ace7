"""The local rewriter on a real, tiny instruct model."""

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gpu_worker.engine.__main__ import Engine, code_of
from gpu_worker.engine.model import Model
from gpu_worker.engine.protocol import Render
from gpu_worker.engine.render import Renderer
from gpu_worker.engine.rewrite import LocalRewriter
from gpu_worker.engine.serve import JobLoop
from video_jobs.catalogue import load_catalogue
from video_jobs.job import VideoSpec
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


@pytest.mark.parametrize("prompt", ["", "a cat"])
def test_no_prompt_is_made_up_for_an_image_alone(prompt: str, model: Model, tmp_path: Path) -> None:
    rewriter = LocalRewriter(str(instruct_model(tmp_path / "instruct")), torch.device("cpu"))
    spec = VideoSpec(model="cogvideox-2", width=720, height=480, fps=30, duration_s=5, seed=1)
    asked = {"job_id": "1", "token": "1:a", "prompt": prompt, "seed": 1, "frames_path": "unused"}
    job = Render(**asked, plan=load_catalogue().plan(spec, "tiny-random"))
    read_fd, write_fd = os.pipe()

    engine = Engine(JobLoop(read_fd, write_fd, Render, code_of), Renderer(model), rewriter, {}, load_catalogue(), None)
    rendered = engine._prepare(job, lambda *_: None)

    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as pipe:
        assert (rendered == prompt, pipe.read() == b"") == (not prompt, not prompt)


def test_only_text_of_bounded_length_is_used() -> None:
    assert clean_rewrite(' "A cat\n plays  piano." ', "cat") == "A cat plays piano."
    assert clean_rewrite("  ", "cat") == "cat"
    assert clean_rewrite("<think>The user\nwants a cat.</think>\n\nA cat plays.", "cat") == "A cat plays."
    assert clean_rewrite("<think>The user wants", "cat") == "cat"
    assert len(clean_rewrite("x" * 9999, "cat")) == MAX_REWRITE_CHARACTERS
