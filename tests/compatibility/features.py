"""What every client is asked to do. Runs inside the SDKs' venvs too, so it stands on the standard library alone.

A client has `create(**fields)` and `read(id)`, which return dictionaries, and turns an error answer into `Refused`.
"""

import time
import urllib.request

EVERY_FIELD = {
    "quality": "quality",
    "with_audio": True,
    "size": "1920x1080",
    "duration": 5,
    "fps": 30,
    "request_id": "",
    "user_id": "user_1",
    "sensitive_word_check": {"type": "ALL", "status": "DISABLE"},
}
# What zai-sdk alone names; Java has two of its own, and sends them as they are.
ZAI_FIELDS = {
    "style": "general",
    "aspect_ratio": "16:9",
    "off_peak": False,
    "movement_amplitude": "auto",
    "watermark_enabled": True,
}
ABSENT = "–"


class Refused(Exception):
    """An error answer, as the client saw it: status, code, message and the exception it raised."""

    def __init__(self, status, code, message, kind=""):
        super().__init__(status, code, message, kind)
        self.status, self.code, self.message, self.kind = status, code, message, kind


class Absent(Exception):
    """The client has no such call."""


def ended(client, task):
    for _ in range(400):
        result = client.read(task["id"])
        if result["task_status"] != "PROCESSING":
            return result
        time.sleep(0.1)
    raise AssertionError("the task did not end")


def refusal(call):
    try:
        answer = call()
    except Refused as refused:
        return refused
    raise AssertionError(f"not refused: {answer}")


def check_task(task, model="cogvideox-2"):
    assert isinstance(task["id"], str), "a number would lose digits in JavaScript"
    assert task["id"].isdigit(), task
    assert len(task["id"]) == 25, task
    assert isinstance(task["request_id"], str), task
    assert task["request_id"]
    assert (task["model"], task["task_status"]) == (model, "PROCESSING"), task


def text(world):
    task = world.client().create(model="cogvideox-2", prompt="一只猫在弹钢琴, a cat")
    check_task(task)


def every_field(world):
    fields = EVERY_FIELD | world.own_fields | {"request_id": world.unique("every")}
    task = world.client().create(model="cogvideox-3", prompt="a cat", **fields)
    check_task(task, "cogvideox-3")
    assert task["request_id"] == fields["request_id"]


def image_by_url(world):
    check_task(world.client().create(model="cogvideox-2", prompt="让画面动起来", image_url=world.picture_url))


def image_inline(world):
    for image in (world.picture, f"data:image/png;base64,{world.picture}", f"data:image/png;base64, {world.picture}"):
        check_task(world.client().create(model="cogvideox-2", prompt="a cat", image_url=image))


def image_in_list_or_object(world):
    for image in ([world.picture], {"url": world.picture}, [{"url": world.picture}]):
        check_task(world.client().create(model="cogvideox-2", prompt="a cat", image_url=image))


def polls_to_success(world):
    client = world.client()
    task = client.create(model="cogvideox-2", prompt="a cat, slowly")
    first = client.read(task["id"])
    assert first["task_status"] == "PROCESSING", first
    assert not first.get("video_result"), first
    result = ended(client, task)
    assert (result["task_status"], result["id"], result["model"]) == ("SUCCESS", task["id"], "cogvideox-2"), result
    (video,) = result["video_result"]
    assert ".mp4" in video["url"]
    for link in (video["url"], video["cover_image_url"]):
        with urllib.request.urlopen(link) as reply:
            assert reply.read()


def reads_failure(world):
    client = world.client()
    result = ended(client, client.create(model="cogvideox-2", prompt="please fail"))
    assert result["task_status"] == "FAIL", result
    assert isinstance(result["error"]["code"], str), result
    assert int(result["error"]["code"])
    assert result["error"]["message"]


def same_request_same_task(world):
    client, fields = world.client(), {"model": "cogvideox-2", "prompt": "a cat", "request_id": world.unique("same")}
    assert client.create(**fields)["id"] == client.create(**fields)["id"]
    other = refusal(lambda: client.create(**fields | {"prompt": "a dog"}))
    assert (other.status, other.code) == (400, "1231")


def errors_are_its_own(world):
    client = world.client()
    bad = refusal(lambda: client.create(model="cogvideox-2", prompt="a cat", size="1x1"))
    assert (bad.status, bad.code) == (400, "1214"), bad
    assert "size" in bad.message
    unknown = refusal(lambda: client.read("1" * 25))
    assert (unknown.status, unknown.code) == (400, "1214")
    assert {bad.kind, unknown.kind} in ({""}, {"APIRequestFailedError"})


def right_and_wrong_key(world):
    known = refusal(lambda: world.client().read("1"))
    assert (known.status, known.code) == (400, "1214"), "let in, to ask for a task that is not there"
    stranger = refusal(lambda: world.client(key=world.wrong_key).read("1"))
    assert (stranger.status, stranger.code) == (401, "1000")
    assert stranger.kind in ("", "APIAuthenticationError")


def base_url_with_and_without_slash(world):
    for base in (world.base.rstrip("/"), world.base.rstrip("/") + "/"):
        assert refusal(lambda base=base: world.client(base=base).read("1")).code == "1214"


def language(world):
    message = refusal(lambda: world.client().read("1")).message
    assert message.startswith("Invalid id parameter" if world.english else "id 参数非法"), message


FEATURES = {
    "key": right_and_wrong_key,
    "text": text,
    "every field": every_field,
    "image URL": image_by_url,
    "inline image": image_inline,
    "list or object": image_in_list_or_object,
    "poll, links": polls_to_success,
    "FAIL": reads_failure,
    "replay": same_request_same_task,
    "errors": errors_are_its_own,
    "base URL": base_url_with_and_without_slash,
    "language": language,
}


def try_all(world):
    """For each feature `yes`, a dash where the client has no such call, or what went wrong."""
    said = {}
    for name, feature in FEATURES.items():
        try:
            feature(world)
        except Absent:
            said[name] = ABSENT
        except Exception as error:
            said[name] = f"no: {type(error).__name__}: {error}"
        else:
            said[name] = "yes"
    return said
