"""The request's fields: from JSON to what the caller asked for, every value checked before anything costs."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from server.refusal import Refusal
from video_jobs.catalogue import Catalogue, ModelCode, parse_size
from video_jobs.job import Frozen, ImageRef, Quality, VideoSpec

SHORT_SIDE, MAX_LONG_SIDE = 1080, 3840
MAX_SEED = 2**32 - 1
USER_ID_LENGTHS = range(6, 129)


class GenerationBody(BaseModel):
    """Exactly these fields; others are ignored, `null` is absent, and JSON types are meant as written."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: StrictStr | None = None
    prompt: StrictStr | None = None
    image_url: Any = None
    quality: StrictStr | None = None
    with_audio: StrictBool | None = None
    watermark_enabled: StrictBool | None = None
    size: StrictStr | None = None
    fps: StrictInt | None = None
    duration: StrictInt | None = None
    request_id: StrictStr | None = Field(default=None, min_length=1, max_length=512)
    user_id: StrictStr | None = None
    seed: StrictInt | None = None

    @property
    def has_image(self) -> bool:
        return self.image_url not in (None, "")


class Wanted(Frozen):
    """A checked request. The image, which costs a fetch, comes last."""

    body: GenerationBody
    code: ModelCode
    quality: Quality
    fps: int
    duration_s: int

    def spec(self, image: ImageRef | None, seed: int) -> VideoSpec:
        width, height = self._size(image)
        return VideoSpec(
            model=self.body.model or "",
            prompt=self.body.prompt or "",
            image=image,
            quality=self.quality,
            width=width,
            height=height,
            fps=self.fps,
            duration_s=self.duration_s,
            with_audio=bool(self.body.with_audio),
            watermark=bool(self.body.watermark_enabled),
            seed=seed if self.body.seed is None else self.body.seed,
        )

    def _size(self, image: ImageRef | None) -> tuple[int, int]:
        if self.body.size and "size" not in self.code.ignores:
            return parse_size(self.body.size)
        return default_size(image) if image else parse_size(self.code.default_size)


def read_body(values: dict[str, Any]) -> GenerationBody:
    try:
        return GenerationBody.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as exc:
        field = str(exc.errors()[0]["loc"][0])
        if field == "request_id":
            raise Refusal("1214", field) from exc
        raise Refusal("1210", detail=field) from exc


def check(body: GenerationBody, catalogue: Catalogue, checkpoint: str, max_prompt: int) -> Wanted:
    """Every rule that needs no network; the first broken one is told, with the field's name."""
    if not body.model:
        raise Refusal("1213", "model")
    code = catalogue.models.get(body.model)
    if code is None:
        raise Refusal("1211")
    if not body.prompt and not body.has_image:
        raise Refusal("1213", "prompt")
    if body.prompt and len(body.prompt) > max_prompt:
        raise Refusal("1261")
    _check_text(body)
    _one_of(code, "size", body.size, list(code.sizes), code.default_size)
    native = catalogue.checkpoints[checkpoint]
    if body.has_image and not native.image:
        raise Refusal("1214", "image_url", "no_images")
    return Wanted(
        body=body,
        code=code,
        quality=Quality(_one_of(code, "quality", body.quality, [q.value for q in Quality], Quality.SPEED.value)),
        fps=_one_of(code, "fps", body.fps, list(code.fps), code.fps[0]),
        duration_s=_one_of(code, "duration", body.duration, catalogue.durations(code, checkpoint), 5),
    )


def refuse_unavailable(body: GenerationBody) -> None:
    """By setting: what no stage can do is told at submit instead of in the record."""
    for field in ("with_audio", "watermark_enabled"):
        if getattr(body, field):
            raise Refusal("1214", field, "false")


def default_size(image: ImageRef) -> tuple[int, int]:
    """Short side 1080, the long side by the image's ratio, even numbers."""
    scale = SHORT_SIDE / min(image.width, image.height)
    width, height = (min(MAX_LONG_SIDE, 2 * round(side * scale / 2)) for side in (image.width, image.height))
    return width, height


def _check_text(body: GenerationBody) -> None:
    if body.user_id is not None and len(body.user_id) not in USER_ID_LENGTHS:
        raise Refusal("1214", "user_id", f"{USER_ID_LENGTHS[0]}-{USER_ID_LENGTHS[-1]}")
    if body.seed is not None and not 0 <= body.seed <= MAX_SEED:
        raise Refusal("1214", "seed", f"0-{MAX_SEED}")
    for field in ("prompt", "user_id", "request_id"):
        if not _is_clean(getattr(body, field) or ""):
            raise Refusal("1214", field)


def _is_clean(text: str) -> bool:
    """No control characters but line breaks and tabs, and no half of a surrogate pair."""
    return not any((ord(letter) < 32 and letter not in "\n\r\t") or 0xD800 <= ord(letter) < 0xE000 for letter in text)


def _one_of(code: ModelCode, field: str, value: Any, allowed: list[Any], default: Any) -> Any:
    if value is None or field in code.ignores:
        return default
    if value not in allowed:
        raise Refusal("1214", field, ", ".join(map(str, allowed)))
    return value
