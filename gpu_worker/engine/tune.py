"""How a loaded model is made fast: own attention, the best kernel, compiled blocks, adapters, lower precision."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gpu_worker.engine.adapters import Adapters
from gpu_worker.engine.attention import FusedAttention, install
from gpu_worker.engine.cache import FirstBlockCache
from gpu_worker.engine.compiled import compile_blocks, uncompile_blocks
from gpu_worker.engine.convolve import ONEDNN, convolve_by_onednn
from gpu_worker.engine.crew import LeadingPredictor, announce_clip
from gpu_worker.engine.kernels import Kernel, choose_kernel, is_known, sample_of, sdpa
from gpu_worker.engine.memory import MemoryPreset, Place, Sizes
from gpu_worker.engine.model import Model, size_bytes
from gpu_worker.engine.precision import PrecisionUnusable, lowered
from gpu_worker.engine.predict import Conditions, Predictor
from gpu_worker.engine.ranks import Ranks
from gpu_worker.engine.shared import SharedAttention, SharedPredictor
from gpu_worker.engine.visit import StreamedBlocks
from video_jobs.job import RenderPlan

NATIVE = "native"
TIMED_FOR_TOKENS = 16_384

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    kernel: str = "auto"
    compile: bool = False
    onednn: bool = False


EXACT = Options()


class Tuned:
    """A model ready to render any plan of the catalogue, one at a time."""

    def __init__(self, model: Model, options: Options = EXACT, ranks: Ranks | None = None) -> None:
        self.model, self._options, self.ranks = model, options, ranks
        self.attention = SharedAttention(ranks) if ranks else FusedAttention()
        self._variants: dict[tuple[str, str], Any] = {}
        self._adapters: dict[str, Adapters] = {}
        self._kernels: dict[tuple[str, bool], Kernel] = {}
        for mode, transformer in model.transformers.items():
            install(transformer, self.attention)
            self._adapters[mode] = Adapters(transformer, model.device)
            if ranks:
                ranks.check(transformer.config.num_attention_heads)
            if options.compile:
                compile_blocks(transformer)
        if options.onednn:
            convolve_by_onednn(model.vae)
        self.exact = self.approximate = Kernel("sdpa", sdpa)

    @property
    def variants(self) -> list[Any]:
        """Transformers of lower precision that were made so far."""
        return list(self._variants.values())

    def settle(self, memory: MemoryPreset) -> None:
        """Another home for every part. Blocks of lower precision are made anew there when they are asked for."""
        if (memory.transformer is Place.DEVICE) != (self.model.memory.transformer is Place.DEVICE):
            self._variants.clear()
        self.model.settle(memory)

    def sizes(self) -> Sizes:
        """Of the model, and of what was made beside it."""
        known = self.model.sizes()
        beside = sum(size_bytes(variant.transformer_blocks) for variant in self.variants)
        return replace(known, transformers=known.transformers + beside)

    @property
    def decoder(self) -> str:
        return f"vae, {ONEDNN}" if self._options.onednn else "vae"

    @property
    def is_compiled(self) -> bool:
        return self._options.compile

    def stop_compiling(self, why: Exception) -> None:
        """A machine without a C compiler, say: slower, but it works."""
        logger.warning("blocks not compiled", extra={"why": f"{type(why).__name__}: {str(why)[:300]}"})
        self._options = replace(self._options, compile=False)
        for transformer in [*self.model.transformers.values(), *self.variants]:
            uncompile_blocks(transformer)

    def choose_kernels(self) -> None:
        """The exact one and the one for presets that allow rounding; once, before the first clip."""
        self.exact = choose_kernel(self._sample(), self._options.kernel)
        self.approximate = choose_kernel(self._sample(), self._options.kernel, may_approximate=True)

    def kernel_for(self, plan: RenderPlan, begun_with: str = "") -> Kernel:
        """The plan's, or the one a clip was begun with elsewhere if it works here too: it ends in the same bits."""
        may_approximate = plan.approximate_attention
        own = self.approximate if may_approximate else self.exact
        if begun_with == own.name or not is_known(begun_with):
            return own
        if (begun_with, may_approximate) not in self._kernels:
            found = choose_kernel(self._sample(), begun_with, may_approximate)
            self._kernels[begun_with, may_approximate] = found if found.name == begun_with else own
        return self._kernels[begun_with, may_approximate]

    def _sample(self) -> torch.Tensor:
        return sample_of(next(iter(self.model.transformers.values())), TIMED_FOR_TOKENS, self.model.device)

    @contextlib.contextmanager
    def predictor(
        self, plan: RenderPlan, mode: str, given: Conditions, adapter: Path | None, begun_with: str = ""
    ) -> Iterator[Predictor | LeadingPredictor]:
        """For one clip: weights, precision, kernel and caches as the plan says; the transformer on the device."""
        if self._adapters[mode].hold(plan.adapter_sha256, adapter, plan.adapter_scale):
            # They were made from other weights.
            self._variants = {key: variant for key, variant in self._variants.items() if key[0] != mode}
        kernel = self.kernel_for(plan, begun_with)
        self.attention.attend = kernel.attend
        memory = self.model.memory
        transformer, precision = self._transformer(mode, plan.precision)
        used = {"attention": kernel.name} | ({"precision": precision} if plan.precision != NATIVE else {})
        with self.model.at_work(transformer, memory.transformer) as ready:
            blocks = ready.transformer_blocks
            if memory.transformer is Place.STREAM:
                blocks = StreamedBlocks(blocks, self.model.device)
            predictor = self._predictor(ready, given, plan, blocks, used)
            if self.ranks is None or self.ranks.rank:
                yield predictor
                return
            announce_clip(self.ranks, plan, mode, given, adapter, kernel.name, memory.name)
            yield LeadingPredictor(predictor, self.ranks)

    def _predictor(
        self, transformer: Any, given: Conditions, plan: RenderPlan, blocks: Any, used: dict[str, str]
    ) -> Predictor:
        caches = self._caches(plan)
        if isinstance(self.attention, SharedAttention):
            return SharedPredictor(transformer, given, caches, blocks, used, self.attention)
        return Predictor(transformer, given, caches, self.model.memory.split, blocks, used)

    def _caches(self, plan: RenderPlan) -> list[FirstBlockCache]:
        if not plan.cache_threshold:
            return []
        branches = 2 if self.model.memory.split and self.ranks is None else 1
        agree = self.ranks.agree if self.ranks else None
        return [FirstBlockCache(plan.cache_threshold, plan.cache_max_skips, agree) for _ in range(branches)]

    def _transformer(self, mode: str, precision: str) -> tuple[Any, str]:
        """In this precision, or in the native one with a line that says why."""
        native = self.model.transformers[mode]
        if precision == NATIVE:
            return native, NATIVE
        if (mode, precision) not in self._variants:
            try:
                self._variants[mode, precision] = self._lowered(native, precision)
            except PrecisionUnusable as exc:
                logger.warning("precision not used", extra={"precision": precision, "why": str(exc)})
                return native, NATIVE
        return self._variants[mode, precision], precision

    def _lowered(self, native: Any, precision: str) -> Any:
        variant = lowered(native, precision, self.model.device)
        if self._options.compile:
            compile_blocks(variant)
        return variant
