"""`/openapi.json`: this API as this deployment serves it, written from what it offers. It needs no key."""

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter

from server.deps import House, TheHouse
from server.zhipu.errors import Utf8Json
from server.zhipu.schemas import TASK_ID, Schema, example_bodies, schemas
from server.zhipu.tasks import MAX_LISTED
from server.zhipu.words import TABLE

router = APIRouter()

# What any request may meet: headers too long or too slow, and a gateway that has lost something it needs.
ALWAYS = (400, 408, 431, 500, 503)
KEY = {"model": "cogvideox-2", "id": TASK_ID, "request_id": "order-1"}
LINKS = {
    "url": f"https://gateway.example/files/videos/{TASK_ID}/1-a/video.mp4?expires=1800000000&signature=0f",
    "cover_image_url": f"https://gateway.example/files/videos/{TASK_ID}/1-a/cover.jpg?expires=1800000000&signature=0f",
}
STATES: dict[str, Schema] = {
    "waiting or rendering": {**KEY, "task_status": "PROCESSING"},
    "done": {**KEY, "task_status": "SUCCESS", "video_result": [LINKS]},
    "failed": {**KEY, "task_status": "FAIL", "error": {"code": "1200", "message": "视频生成失败"}},
}
# The code that an error status most often carries.
CODES = {
    **{400: "1210", 401: "1000", 403: "1220", 404: "1222", 408: "1210", 413: "1210", 415: "1210", 416: "1210"},
    **{429: "1302", 431: "1210", 500: "500", 503: "1234"},
}


@router.get("/openapi.json")
async def describe(house: TheHouse) -> Utf8Json:
    """The OpenAPI document."""
    return Utf8Json(document(house))


def document(house: House) -> Schema:
    settings, offers = house.settings, house.intake.offers
    return {
        "openapi": "3.1.0",
        "info": {"title": "CogVideoX Server", "version": "4", "description": "Zhipu's CogVideoX video API."},
        "servers": [{"url": settings.public_url or "/"}],
        "security": [{"bearer": []}, {"bare": []}],
        "paths": {
            **{f"{settings.prefix}{path}": item for path, item in _api(house).items()},
            "/files/{key}": {"get": _file()},
            "/healthz": {"get": _open("is_alive", "Whether the gateway runs", {"status": {"const": "alive"}})},
            "/readyz": {"get": _ready()},
            "/openapi.json": {"get": _open("describe", "This document", {"openapi": {"type": "string"}})},
        },
        "components": {
            "schemas": schemas(offers, settings),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "`Bearer`, and an API key or a JWT."},
                "bare": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "Without `Bearer`."},
            },
        },
    }


def _api(house: House) -> dict[str, Schema]:
    create = {
        "operationId": "create_video",
        "summary": "Queue a video",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/GenerationRequest"},
                    "examples": example_bodies(house.intake.offers),
                }
            },
        },
        "responses": _responses(_ok("Task", KEY | {"task_status": "PROCESSING"}), (401, 403, 413, 415, 429)),
    }
    read = {
        "operationId": "read_result",
        "summary": "Where the task stands",
        "parameters": [_task_id()],
        "responses": _responses(_ok("Result", *STATES.values()), (401, 403, 404, 429)),
    }
    if house.settings.strict:
        return {"/videos/generations": {"post": create}, "/async-result/{id}": {"get": read}}
    return {
        "/videos/generations": {"post": create, "get": _list()},
        "/async-result/{id}": {"get": read, "delete": _cancel()},
        "/models": {"get": _models()},
    }


def _list() -> Schema:
    # A name without a value is as good as none.
    number, nothing = {"type": "integer", "minimum": 1, "maximum": MAX_LISTED}, {"type": "string", "maxLength": 0}
    count = {"name": "limit", "in": "query", "schema": {"anyOf": [number, nothing]}}
    cursor = {
        "name": "after",
        "in": "query",
        "schema": {"anyOf": [{"type": "string", "format": "task-id", "pattern": "^[0-9]{25}$"}, nothing]},
    }
    page = {
        "object": "list",
        "data": [{**KEY, "created_at": 1795216405, "task_status": "PROCESSING"}],
        "has_more": False,
    }
    return {
        "operationId": "list_videos",
        "summary": "Your tasks, newest first; `after` is the `last_id` of the page before",
        "parameters": [count, cursor],
        "responses": _responses(_ok("Page", page | {"first_id": TASK_ID, "last_id": TASK_ID}), (401, 403, 429)),
    }


def _cancel() -> Schema:
    done = _ok("Deleted", {"id": TASK_ID, "deleted": True})
    either = {
        "oneOf": [{"$ref": "#/components/schemas/Deleted"}, {"$ref": "#/components/schemas/Page/properties/data/items"}]
    }
    done["content"]["application/json"]["schema"] = either
    return {
        "operationId": "cancel_video",
        "summary": "Cancel the task; once it has ended, delete its video",
        "parameters": [_task_id()],
        "responses": _responses(done, (401, 403, 404, 429)),
    }


def _models() -> Schema:
    return {
        "operationId": "list_models",
        "summary": "The model codes, with what each takes here",
        "responses": _responses(_ok("Models"), (401, 403, 429)),
    }


def _file() -> Schema:
    key = {"name": "key", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    query = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in ("expires", "signature")]
    content: Schema = {kind: {} for kind in ("video/mp4", "image/jpeg", "image/png", "application/octet-stream")}
    responses = _responses({"description": "The object", "content": content}, (403, 404, 416))
    responses["206"] = {"description": "The range that was asked for", "content": content}
    responses["302"] = {"description": "Where the object can be read, if the store is to deliver it"}
    return {
        "operationId": "read_file",
        "summary": "A result, at its signed link",
        "parameters": [key, *query],
        "security": [],
        "responses": responses,
    }


def _open(name: str, summary: str, fields: dict[str, Schema]) -> Schema:
    schema = {"type": "object", "required": list(fields), "properties": fields}
    done = {"description": "OK", "content": {"application/json": {"schema": schema}}}
    return {"operationId": name, "summary": summary, "security": [], "responses": _responses(done, ())}


def _ready() -> Schema:
    fields: dict[str, Schema] = {
        "ready": {"type": "boolean"},
        "problems": {"type": "array", "items": {"type": "string"}},
    }
    operation = _open("is_ready", "Whether jobs may be sent", fields)
    error = {"$ref": "#/components/schemas/Error/properties/error"}
    schema = {"type": "object", "required": [*fields, "error"], "properties": {**fields, "error": error}}
    not_now = _error(503) | {"content": {"application/json": {"schema": schema}}}
    operation["responses"]["503"] = not_now | {"description": "Not now, and why"}
    return operation


def _task_id() -> Schema:
    schema = {"type": "string", "format": "task-id", "pattern": "^[0-9]{1,32}$"}
    return {"name": "id", "in": "path", "required": True, "schema": schema, "example": TASK_ID}


def _ok(name: str, *examples: Schema) -> Schema:
    media: Schema = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    if examples:
        media["examples"] = {f"example {n}": {"value": example} for n, example in enumerate(examples, 1)}
    return {"description": "OK", "content": {"application/json": media}}


def _responses(done: Schema, errors: Iterable[int]) -> dict[str, Any]:
    return {"200": done} | {str(status): _error(status) for status in sorted({*errors, *ALWAYS})}


def _error(status: int) -> Schema:
    code = CODES[status]
    example = {"error": {"code": code, "message": TABLE[code].zh.format(api_name="files", error_id="0f1e2d3c4b5a6978")}}
    media = {"schema": {"$ref": "#/components/schemas/Error"}, "example": example}
    headers: Schema = {"x-should-retry": {"required": True, "schema": {"enum": ["true", "false"]}}}
    if status == 503:
        headers["Retry-After"] = {"required": True, "schema": {"type": "string"}}
    return {"description": TABLE[code].en, "headers": headers, "content": {"application/json": media}}
