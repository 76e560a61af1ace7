"""The request's fields: from JSON to what the caller asked for, every value checked before anything costs."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from server.offer import Offer
from server.refusal import Refusal
from video_jobs.job import Frozen, ImageRef, Quality, VideoSpec
from video_jobs.limits import ServiceClass

MAX_SEED = 2**32 - 1
MAX_REQUEST_ID = 512
ADDITIONS = frozenset({"seed", "service_class"})
USER_ID_LENGTHS = range(6, 129)


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 30.0 is 30. Text and true are no numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[StrictInt, BeforeValidator(_whole)]


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
    fps: WholeNumber | None = None
    duration: WholeNumber | None = None
    request_id: StrictStr | None = Field(default=None, min_length=1, max_length=MAX_REQUEST_ID)
    user_id: StrictStr | None = None
    seed: WholeNumber | None = None
    service_class: StrictStr | None = None
    off_peak: Any = None
    sensitive_word_check: Any = None

    @property
    def has_image(self) -> bool:
        return self.image_url not in (None, "")


class Wanted(Frozen):
    """A checked request. The image, which costs a fetch, comes last."""

    body: GenerationBody
    offer: Offer
    quality: Quality
    fps: int
    with_audio: bool
    duration_s: int
    service_class: ServiceClass | None = None

    def spec(self, image: ImageRef | None, seed: int) -> VideoSpec:
        width, height = self.offer.size_for(self.body.size, image)
        return VideoSpec(
            model=self.body.model or "",
            prompt=self.body.prompt or "",
            image=image,
            quality=self.quality,
            width=width,
            height=height,
            fps=self.fps,
            duration_s=self.duration_s,
            with_audio=self.with_audio,
            watermark=bool(self.body.watermark_enabled),
            seed=seed if self.body.seed is None else self.body.seed,
        )


def read_body(values: dict[str, Any], strict: bool = False) -> GenerationBody:
    """A strict gateway knows no field that the hosted API does not know."""
    unread = ADDITIONS if strict else frozenset()
    sent = {name: value for name, value in values.items() if value is not None and name not in unread}
    try:
        return GenerationBody.model_validate(sent)
    except ValidationError as exc:
        first = exc.errors()[0]
        field = str(first["loc"][0])
        if first["type"].startswith("string_too_"):
            raise Refusal("1214", field, f"1-{MAX_REQUEST_ID}") from exc
        raise Refusal("1210", detail=field) from exc


def check(body: GenerationBody, offers: Mapping[str, Offer], max_prompt: int) -> Wanted:
    """Every rule that needs no network; the first broken one is told, with the field's name."""
    if not body.model:
        raise Refusal("1213", "model")
    offer = offers.get(body.model)
    if offer is None:
        raise Refusal("1211")
    if not body.prompt and not body.has_image:
        raise Refusal("1213", "prompt")
    if body.prompt and len(body.prompt) > max_prompt:
        raise Refusal("1261")
    _check_text(body)
    if body.has_image and not offer.images:
        raise Refusal("1214", "image_url", "no_images")
    _one_of(offer, "size", body.size, offer.sizes, offer.default_size)
    return Wanted(
        body=body,
        offer=offer,
        quality=Quality(_one_of(offer, "quality", body.quality, [q.value for q in Quality], Quality.SPEED.value)),
        fps=_one_of(offer, "fps", body.fps, offer.fps, offer.fps[0]),
        with_audio=_one_of(offer, "with_audio", body.with_audio, (False, True)[: 1 + offer.audio], False),
        duration_s=_one_of(offer, "duration", body.duration, offer.durations, offer.durations[0]),
        service_class=_service_class(body),
    )


def refuse_unavailable(body: GenerationBody) -> None:
    """By setting: what no stage can do is told at submit instead of in the record."""
    for field in ("with_audio", "watermark_enabled"):
        if getattr(body, field):
            raise Refusal("1214", field, "false")


def _check_text(body: GenerationBody) -> None:
    if body.user_id is not None and len(body.user_id) not in USER_ID_LENGTHS:
        raise Refusal("1214", "user_id", f"{USER_ID_LENGTHS[0]}-{USER_ID_LENGTHS[-1]}")
    if body.seed is not None and not 0 <= body.seed <= MAX_SEED:
        raise Refusal("1214", "seed", f"0-{MAX_SEED}")
    for field in ("prompt", "user_id", "request_id"):
        if not _is_clean(getattr(body, field) or ""):
            raise Refusal("1214", field)


def _is_clean(text: str) -> bool:
    """No control characters but line breaks and tabs."""
    return not any(ord(letter) < 32 and letter not in "\n\r\t" for letter in text)


def _service_class(body: GenerationBody) -> ServiceClass | None:
    """What the caller lowers itself to; Zhipu's clients say `off_peak`."""
    names = [known.name.lower() for known in ServiceClass]
    if body.service_class is not None and body.service_class not in names:
        raise Refusal("1214", "service_class", ", ".join(names))
    if body.off_peak is True:
        return ServiceClass.BATCH
    return ServiceClass[body.service_class.upper()] if body.service_class else None


def _one_of(offer: Offer, field: str, value: Any, allowed: Sequence[Any], default: Any) -> Any:
    if value is None or field in offer.ignores:
        return default
    if value not in allowed:
        raise Refusal("1214", field, ", ".join(one if isinstance(one, str) else json.dumps(one) for one in allowed))
    return value
