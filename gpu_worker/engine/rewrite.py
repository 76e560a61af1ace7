"""A local instruct model that turns a short prompt of any language into a rich English one."""

import itertools
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from video_jobs.rewriting import INSTRUCTION, clean_rewrite

MAX_NEW_TOKENS = 200


class LocalRewriter:
    def __init__(self, folder: str, device: torch.device) -> None:
        self.name = f"local:{Path(folder).name}"
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).to(device).eval()

    @torch.no_grad()
    def rewrite(self, prompt: str, on_token: Callable[[int, int], None] = lambda _done, _total: None) -> str:
        """A better prompt; `on_token` hears of every word written, and may raise to stop."""
        written = itertools.count()
        hook = self._model.register_forward_pre_hook(lambda *_: on_token(next(written), MAX_NEW_TOKENS))
        try:
            return self._rewrite(prompt)
        finally:
            hook.remove()

    def _rewrite(self, prompt: str) -> str:
        said = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": prompt}]
        ids = self._tokenizer.apply_chat_template(
            said, add_generation_prompt=True, enable_thinking=False, return_tensors="pt", return_dict=True
        ).to(self._model.device)
        out = self._model.generate(**ids, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        answer = self._tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        return clean_rewrite(answer, prompt)
