"""The few messages between the worker and its children, and how they are framed.

Each frame is four length bytes (big endian) and one JSON object `{"kind": …, …}` on a file descriptor of its own:
stdout and stderr stay logs. Every message about a job carries its id and token. Frames of video pass by scratch file.
A child ends when its pipe closes.
"""

import json
import os
import struct
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from video_jobs.job import Frozen, RenderPlan, Stage

MAX_FRAME_BYTES = 1 << 20
OUT_OF_MEMORY = 71
"""The exit status of a child that needs a smaller memory preset and could only get it by starting again."""

_LENGTH = struct.Struct(">I")


class Render(Frozen):
    """To the engine: make the native frames of this plan."""

    kind: Literal["render"] = "render"
    job_id: str
    token: str
    prompt: str
    is_rewritten: bool = False
    """The prompt is a recorded rewrite: a local rewriter leaves it as it is."""

    image_path: str | None = None
    plan: RenderPlan
    seed: int
    frames_path: str
    """Where the engine writes its frames: a .npy file of uint8, shape (frames, height, width, 3), RGB."""

    checkpoint_path: str | None = None
    """Where an earlier attempt stood. The engine goes on from there, or ignores it if it does not fit this job."""

    checkpoint_folder: str | None = None
    """Where the engine leaves checkpoints of its own; none when not set."""

    checkpoint_every_s: float = 30.0


class Finish(Frozen):
    """To the finisher: make the video and the cover from the native frames."""

    kind: Literal["finish"] = "finish"
    job_id: str
    token: str
    plan: RenderPlan
    frames_path: str
    video_path: str
    cover_path: str
    samples: int = 0
    """How many small frames to leave beside the cover, for the moderation service."""


class Cancel(Frozen):
    """To a child: stop this job at the next step; answered by `Failed` with code `cancelled`."""

    kind: Literal["cancel"] = "cancel"
    job_id: str
    token: str
    keep_checkpoint: bool = False
    """The job goes on elsewhere: an engine that is denoising leaves a checkpoint of that step first."""


class Ready(Frozen):
    """From a child: loaded, warm, waiting for work."""

    kind: Literal["ready"] = "ready"
    versions: dict[str, str] = {}
    """weights_revision, weights_checksum, engine_version and device, where the child has them."""
    alphabet: str = ""
    """The letters the tokenizer knows; `*` when it spells any text out in bytes; empty when not an engine."""

    start_seconds: dict[str, float] = {}
    """What the child's start took, by part."""


class Progress(Frozen):
    kind: Literal["progress"] = "progress"
    job_id: str
    token: str
    stage: Stage
    done: int
    total: int


class Prepared(Frozen):
    """From the engine: the prompt as it will be rendered, when a local model rewrote it."""

    kind: Literal["prepared"] = "prepared"
    job_id: str
    token: str
    prompt: str
    by: str


class Checkpointed(Frozen):
    """From the engine: a checkpoint of this job lies in its folder; the parent carries it off."""

    kind: Literal["checkpointed"] = "checkpointed"
    job_id: str
    token: str
    path: str
    step: int


class Done(Frozen):
    """From a child: the files are written. `stages` names what was really used."""

    kind: Literal["done"] = "done"
    job_id: str
    token: str
    stage_seconds: dict[str, float] = {}
    stages: dict[str, str] = {}
    peak_memory_bytes: int = 0
    """The most device memory that this job took; 0 where the device does not say."""


class Failed(Frozen):
    """From a child: this job ended with an error of `video_jobs.errors`."""

    kind: Literal["failed"] = "failed"
    job_id: str
    token: str
    code: str
    detail: str = ""


Message = Annotated[
    Render | Finish | Cancel | Ready | Progress | Prepared | Checkpointed | Done | Failed,
    Field(discriminator="kind"),
]
_message: TypeAdapter[Message] = TypeAdapter(Message)


def encode(message: Message) -> bytes:
    body = message.model_dump_json().encode()
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {len(body)} bytes is longer than {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes) -> Message:
    return _message.validate_python(json.loads(body))


def length_of(header: bytes) -> int:
    (length,) = _LENGTH.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {length} bytes is longer than {MAX_FRAME_BYTES}")
    return int(length)


def read_messages(fd: int) -> Iterator[Message]:
    """The child's side: messages until the pipe closes."""
    with os.fdopen(fd, "rb", closefd=False) as pipe:
        while len(header := pipe.read(_LENGTH.size)) == _LENGTH.size:
            yield decode(pipe.read(length_of(header)))


def write_message(fd: int, message: Message) -> None:
    """The child's side: one whole frame, however often the pipe takes only part of it."""
    rest = memoryview(encode(message))
    while rest:
        rest = rest[os.write(fd, rest) :]
