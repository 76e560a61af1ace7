"""Which model codes exist, what each honours, and how a spec becomes a plan for a checkpoint."""

import math
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from video_jobs.job import Quality, RenderPlan, VideoSpec

# Other counts end before alpha 1 and leave noise: the schedulers' integer stride misses the last step.
STEP_COUNTS = frozenset({10, 20, 25, 30, 40, 50, 100})


def _lands_on_alpha_one(steps: int) -> int:
    if steps not in STEP_COUNTS:
        raise ValueError(f"steps must be one of {sorted(STEP_COUNTS)}: other counts leave noise in the clip")
    return steps


Count = Annotated[int, Field(gt=0)]
Size = Annotated[str, Field(pattern=r"^[1-9]\d{1,4}x[1-9]\d{1,4}$")]


def parse_size(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    return int(width), int(height)


def _has_sides_of_16(size: str) -> str:
    if any(side % 16 for side in parse_size(size)):
        raise ValueError(f"{size}: native sides are multiples of 16")
    return size


def _is_whole(frames: int) -> int:
    if frames < 1 or frames % 8 != 1:
        raise ValueError(f"{frames} frames: only 8N+1 come out as asked")
    return frames


Mode = Literal["t2v", "i2v"]


class Entry(BaseModel):
    """Closed, so that a misspelt word in an operator's file is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Adapter(Entry):
    """A LoRA over one checkpoint's transformers, as safetensors; a relative path starts at the catalogue's folder."""

    checkpoint: str
    file: Path
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scale: float = 1.0


class ModelCode(Entry):
    """A model as the API names it: the sizes it offers and the fields it takes but does not honour."""

    sizes: tuple[Size, ...] = Field(min_length=1)
    default_size: Size = "1920x1080"
    durations: tuple[int, ...] = (5, 10)
    fps: tuple[int, ...] = (30, 60)
    ignores: tuple[Literal["quality", "size", "fps", "duration", "with_audio"], ...] = ()
    lora: Adapter | None = None


class Preset(Entry):
    """How a clip is denoised. Everything below `guidance` trades exactness for time."""

    steps: Annotated[int, AfterValidator(_lands_on_alpha_one)]
    scheduler: Literal["ddim", "dpm"]
    guidance: float = Field(gt=1)
    cache_threshold: float = Field(default=0, ge=0)
    """A step is taken from the one before while the first block's work changed by less than this share; 0 for never."""

    cache_max_skips: int = Field(default=3, ge=1)
    """So many steps in a row at most."""

    precision: Literal["native", "int8", "fp8"] = "native"
    """Of the linear layers."""

    approximate_attention: bool = False
    """Attention may round to 8 bits, where a kernel for it is installed."""

    @property
    def is_exact(self) -> bool:
        return not self.cache_threshold and self.precision == "native" and not self.approximate_attention


def _are_both_and_quality_is_exact(presets: dict[str, Preset]) -> dict[str, Preset]:
    if "quality" in presets and not presets["quality"].is_exact:
        raise ValueError("the preset `quality` is exact: no step cache, no lower precision, no approximate attention")
    if set(presets) != set(Quality):
        raise ValueError("requests ask for `speed` or `quality`: presets of these names, and of no others, are wanted")
    return presets


class Checkpoint(Entry):
    """Weights as the engine knows them: native geometry, and what a forward pass costs."""

    sizes: tuple[Annotated[Size, AfterValidator(_has_sides_of_16)], ...] = Field(min_length=1)
    frames: dict[int, Annotated[int, AfterValidator(_is_whole)]] = Field(min_length=1)
    fps: Count
    text_tokens: Count
    layers: Count
    hidden: Count
    patch_t: Count
    tflops: float = Field(gt=0)
    image: bool = True
    repos: dict[Mode, str] = {}
    """What `models pull` fetches, by what it renders: `t2v`, `i2v`; an owner's name may stand before it."""

    revisions: dict[Mode, str] = {}
    """Pinned revisions of these, likewise; the newest where none is named."""

    licence: str = ""
    weights_checksum: str = ""
    """What the engine must find over all weights, as the record tells it; any when empty."""

    presets: Annotated[dict[str, Preset], AfterValidator(_are_both_and_quality_is_exact)]

    @model_validator(mode="after")
    def _repos_render_what_is_offered(self) -> Self:
        if self.repos and self.image and "i2v" not in self.repos:
            raise ValueError("repos name none for i2v: say image = false, or requests with an image could only fail")
        if strangers := set(self.revisions) - set(self.repos):
            raise ValueError(f"revisions of no repository: {', '.join(sorted(strangers))}")
        return self

    @cached_property
    def native_sizes(self) -> tuple[tuple[int, int], ...]:
        return tuple(parse_size(size) for size in self.sizes)

    def nearest_size(self, width: int, height: int) -> tuple[int, int]:
        """The native size whose shape is closest; of equals the largest."""
        wanted = math.log(width / height)
        return min(self.native_sizes, key=lambda s: (round(abs(math.log(s[0] / s[1]) - wanted), 6), -s[0] * s[1]))


class Catalogue(Entry):
    models: dict[str, ModelCode]
    checkpoints: dict[str, Checkpoint]

    @model_validator(mode="after")
    def _adapters_have_their_checkpoint(self) -> Self:
        for name, code in self.models.items():
            if code.lora is not None and code.lora.checkpoint not in self.checkpoints:
                raise ValueError(f"{name}: the catalogue has no checkpoint {code.lora.checkpoint}")
        return self

    def durations(self, code: ModelCode, checkpoint: str) -> list[int]:
        """The clip lengths of a model code that the checkpoint can render."""
        return [seconds for seconds in code.durations if seconds in self.checkpoints[checkpoint].frames]

    def can_serve(self, code: ModelCode, checkpoint: str) -> bool:
        """An adapter fits the checkpoint it was trained on alone."""
        return code.lora is None or code.lora.checkpoint == checkpoint

    def adapter(self, model: str) -> Adapter | None:
        return self.models[model].lora if model in self.models else None

    def plan(self, spec: VideoSpec, checkpoint: str) -> RenderPlan:
        """How `spec` is rendered by `checkpoint` and finished to exactly what was asked."""
        native = self.checkpoints[checkpoint]
        preset, lora = native.presets[spec.quality], self.adapter(spec.model)
        width, height = native.nearest_size(spec.width, spec.height)
        return RenderPlan(
            checkpoint=checkpoint,
            preset=spec.quality,
            width=width,
            height=height,
            num_frames=native.frames[spec.duration_s],
            native_fps=native.fps,
            steps=preset.steps,
            scheduler=preset.scheduler,
            guidance=preset.guidance,
            max_text_tokens=native.text_tokens,
            cache_threshold=preset.cache_threshold,
            cache_max_skips=preset.cache_max_skips,
            precision=preset.precision,
            approximate_attention=preset.approximate_attention,
            adapter=spec.model if lora else "",
            adapter_sha256=lora.sha256 if lora else "",
            adapter_scale=lora.scale if lora else 1.0,
            out_width=spec.width,
            out_height=spec.height,
            out_fps=spec.fps,
            out_frames=spec.fps * spec.duration_s,
        )


def load_catalogue(extra: Path | None = None) -> Catalogue:
    """The built-in catalogue, with an operator's file laid over it."""
    tables = tomllib.loads((Path(__file__).parent / "catalogue.toml").read_text())
    if extra is not None:
        for section, entries in tomllib.loads(extra.read_text()).items():
            _check_tables(section, entries)
            tables[section] = tables.get(section, {}) | entries
        _place_adapters(tables["models"], extra.parent)
    tables["models"] = {name: _completed(entry, tables["models"]) for name, entry in tables["models"].items()}
    return Catalogue.model_validate(tables)


def _check_tables(section: str, entries: Any) -> None:
    tables = entries if isinstance(entries, dict) else {section: entries}
    for name, entry in tables.items():
        if not isinstance(entry, dict):
            raise ValueError(f"{name} = {entry!r}: a table is wanted")


def _completed(
    entry: dict[str, Any], models: dict[str, dict[str, Any]], on_the_way: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`like` names another code, whose words are taken where this one has none of its own."""
    if "like" not in entry:
        return entry
    like = entry["like"]
    if like not in models or like in on_the_way:
        raise ValueError(f"like = {like!r}: there is no such model code")
    base = _completed(models[like], models, (*on_the_way, like))
    return base | {name: word for name, word in entry.items() if name != "like"}


def _place_adapters(models: dict[str, Any], folder: Path) -> None:
    for entry in models.values():
        if "file" in (lora := entry.get("lora", {})):
            lora["file"] = folder / lora["file"]
