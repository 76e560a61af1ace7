"""The JSON of this API as JSON Schema: what each model code takes here, and what is answered."""

from collections.abc import Mapping
from typing import Any

from server.offer import Offer
from server.settings import GatewaySettings
from server.zhipu.fields import MAX_REQUEST_ID, MAX_SEED, USER_ID_LENGTHS
from video_jobs.job import Quality
from video_jobs.limits import ServiceClass

Schema = dict[str, Any]

# Line breaks and tabs are the only control characters.
CLEAN = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f]*$"
TASK_ID = "8868902201637896192000417"
IMAGE_URL = "https://example.com/first-frame.png"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="
OURS = "An addition of ours."
BASE64 = f"data:image/png;base64, {PIXEL}"


def schemas(offers: Mapping[str, Offer], settings: GatewaySettings) -> dict[str, Schema]:
    asked = {_name(model): _request(model, offer, settings) for model, offer in offers.items()}
    which = {model: f"#/components/schemas/{_name(model)}" for model in offers}
    return {
        "GenerationRequest": {
            "oneOf": [{"$ref": place} for place in which.values()],
            "discriminator": {"propertyName": "model", "mapping": which},
        },
        **asked,
        "Image": _image(),
        "Task": _task(settings.strict),
        "Result": _result(settings.strict),
        "Error": _error(),
        **({} if settings.strict else {"Page": _page(), "Deleted": _deleted(), "Models": _models()}),
    }


def example_bodies(offers: Mapping[str, Offer]) -> dict[str, Schema]:
    """Requests that are accepted as they stand here, one of each kind."""
    bodies: dict[str, Schema] = {}
    for model, offer in offers.items():
        bodies[f"{model}, text"] = {
            "summary": "Text to video",
            "value": {"model": model, "prompt": "A cat plays the piano."},
        }
        whole = {"size": offer.sizes[0], "fps": offer.fps[0], "duration": offer.durations[0], "quality": "quality"}
        more = {"with_audio": offer.audio, "request_id": f"order-1-{model}", "user_id": "user-001"}
        value = {"model": model, "prompt": "A cat plays the piano.", **whole, **more}
        bodies[f"{model}, every field"] = {"summary": "Every field", "value": value}
        if offer.images:
            value = {"model": model, "prompt": "Make the picture move.", "image_url": BASE64}
            bodies[f"{model}, image"] = {"summary": "Image to video", "value": value}
    return bodies


def _name(model: str) -> str:
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in model)
    return f"Request_{letters}"


def _request(model: str, offer: Offer, settings: GatewaySettings) -> Schema:
    fields = {
        "model": {"const": model},
        "prompt": _text(0, settings.max_prompt_characters, "What is to be seen. Required without `image_url`."),
        "quality": _one_of(offer, "quality", "string", [quality.value for quality in Quality], "speed"),
        "size": _one_of(offer, "size", "string", offer.sizes, offer.default_size),
        "fps": _one_of(offer, "fps", "integer", offer.fps, offer.fps[0]),
        "duration": _one_of(offer, "duration", "integer", offer.durations, offer.durations[0]),
        "with_audio": _one_of(offer, "with_audio", "boolean", [False, True] if offer.audio else [False], False),
        "watermark_enabled": _flag(settings),
        "request_id": _text(1, MAX_REQUEST_ID, "Yours, and unique: the same body under it makes one task only."),
        "user_id": _text(USER_ID_LENGTHS[0], USER_ID_LENGTHS[-1], "Your end user."),
        "sensitive_word_check": {"description": '`{"status": "DISABLE"}` counts where the tenant may say so.'},
        "off_peak": {"description": "`true` lets others go first."},
    }
    if not settings.strict:
        fields["seed"] = {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_SEED, "description": OURS}
        classes = [known.name.lower() for known in ServiceClass]
        fields["service_class"] = {"type": ["string", "null"], "enum": [*classes, None], "description": OURS}
    ways: list[Schema] = [{"required": ["prompt"], "properties": {"prompt": {"type": "string", "minLength": 1}}}]
    if offer.images:
        fields["image_url"] = {"anyOf": [{"$ref": "#/components/schemas/Image"}, {"enum": [None, ""]}]}
        ways.append({"required": ["image_url"], "properties": {"image_url": {"$ref": "#/components/schemas/Image"}}})
    return {
        "type": "object",
        "description": "`null` means absent, and so does an empty image; fields not named here are ignored.",
        "required": ["model"],
        "properties": fields,
        "anyOf": ways,
    }


def _one_of(offer: Offer, field: str, kind: str, allowed: Any, default: Any) -> Schema:
    if field in offer.ignores:
        return {"type": [kind, "null"], "description": f"Accepted and ignored: always {default}."}
    # A default that is no caller's choice (an image's size follows the image) is told in words.
    return {"type": [kind, "null"], "enum": [*allowed, None], "description": f"Default {default}."}


def _flag(settings: GatewaySettings) -> Schema:
    allowed = [False, None] if settings.refuse_unavailable else [False, True, None]
    return {"type": ["boolean", "null"], "enum": allowed}


def _text(least: int, most: int, what: str) -> Schema:
    return {"type": ["string", "null"], "minLength": least, "maxLength": most, "pattern": CLEAN, "description": what}


def _image() -> Schema:
    text = {"type": "string", "format": "image", "minLength": 1}
    in_object = {"type": "object", "required": ["url"], "properties": {"url": text}}
    return {
        "description": "The first frame, png or jpeg: its URL, a data URI or raw base64.",
        "anyOf": [
            text,
            in_object,
            {"type": "array", "minItems": 1, "maxItems": 1, "items": {"anyOf": [text, in_object]}},
        ],
        "examples": [IMAGE_URL, BASE64],
    }


def _object(required: Mapping[str, Schema], **optional: Schema) -> Schema:
    fields = {**required, **optional}
    return {"type": "object", "required": list(required), "properties": fields, "additionalProperties": False}


def _named() -> dict[str, Schema]:
    return {
        "model": {"type": "string"},
        "id": {"type": "string", "pattern": "^[1-9][0-9]{24}$"},
        "request_id": {"type": "string", "minLength": 1},
    }


def _task(strict: bool) -> Schema:
    extra: dict[str, Schema] = {} if strict else {"warning": {"type": "string", "minLength": 1}}
    return _object({**_named(), "task_status": {"const": "PROCESSING"}}, **extra)


def _result(strict: bool, listed: bool = False) -> Schema:
    """One of three, told apart by `task_status`."""
    named: dict[str, Schema] = _named() | ({"created_at": {"type": "integer"}} if listed else {})
    link = {"type": "string", "format": "uri", "minLength": 1}
    videos = {"type": "array", "minItems": 1, "maxItems": 1, "items": _object({"url": link, "cover_image_url": link})}
    whole = {"type": "integer", "minimum": 0}
    extra = {} if strict else {"progress": whole | {"maximum": 100}, "queue_position": whole, "eta_seconds": whole}
    return {
        "oneOf": [
            _object({**named, "task_status": {"const": "PROCESSING"}}, **extra),
            _object({**named, "task_status": {"const": "SUCCESS"}, "video_result": videos}),
            _object({**named, "task_status": {"const": "FAIL"}, "error": _code_and_message()}, contentFilter=_filter()),
        ]
    }


def _page() -> Schema:
    item = _result(strict=False, listed=True)
    ends = {name: {"type": "string"} for name in ("first_id", "last_id")}
    fields: dict[str, Schema] = {
        "object": {"const": "list"},
        "data": {"type": "array", "items": item},
        "has_more": {"type": "boolean"},
    }
    return _object(fields, **ends)


def _deleted() -> Schema:
    return _object({"id": {"type": "string"}, "deleted": {"const": True}})


def _models() -> Schema:
    texts, numbers = ({"type": "array", "items": {"type": kind}} for kind in ("string", "integer"))
    model: dict[str, Schema] = {
        **{"id": {"type": "string"}, "object": {"const": "model"}, "owned_by": {"type": "string"}},
        **{"sizes": texts, "default_size": {"type": "string"}, "durations": numbers, "fps": numbers, "ignores": texts},
        **{"audio": {"type": "boolean"}, "images": {"type": "boolean"}},
    }
    return _object({"object": {"const": "list"}, "data": {"type": "array", "items": _object(model)}})


def _code_and_message() -> Schema:
    return _object({"code": {"type": "string", "pattern": "^[0-9]+$"}, "message": {"type": "string", "minLength": 1}})


def _error() -> Schema:
    return _object({"error": _code_and_message()}, contentFilter=_filter())


def _filter() -> Schema:
    """Beside 1301: whose words or pictures they were, and how bad (0 is worst)."""
    role = {"enum": ["user", "assistant", "history"]}
    return {"type": "array", "items": _object({"level": {"type": "integer", "minimum": 0, "maximum": 3}, "role": role})}
