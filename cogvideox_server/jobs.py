"""`cogvideox-server jobs`: the API by URL and key, for a person without an SDK."""

import argparse
import base64
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import httpx2

from cogvideox_server.progress import Bar

POLL_SECONDS, ANSWER_SECONDS, TRIES, WATCH_TRIES = 1.0, 60.0, 5, 120
CHUNK_BYTES = 1 << 18


class CannotDo(Exception):
    """One line that says why."""


def jobs(args: argparse.Namespace) -> int:
    acts: dict[str, Callable[[Api, argparse.Namespace], int]] = {
        "submit": _submit,
        "list": _list,
        "show": _show,
        "watch": _watch,
        "cancel": _cancel,
        "download": _download,
    }
    try:
        with Api(args) as api:
            return acts[args.action](api, args)
    except CannotDo as error:
        print(f"cogvideox-server jobs: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


class Api:
    """The server's answers, or one line about why there is none."""

    def __init__(self, args: argparse.Namespace) -> None:
        url, key = args.url or _known(args.state, "address"), args.key or _known(args.state, "first-key")
        if not url or not key:
            raise CannotDo("which server, and with which key? --url and --key, or COGVIDEOX_URL and COGVIDEOX_API_KEY")
        if not key.isascii():
            raise CannotDo("the key is none: keys are ASCII")
        headers = {"Authorization": f"Bearer {key}", "Accept-Language": "en"}
        self._client = httpx2.Client(base_url=url.rstrip("/") + "/", headers=headers, timeout=ANSWER_SECONDS)

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, method: str, path: str, tries: int = TRIES, **more: Any) -> dict[str, Any]:
        """Tried again while the server cannot be reached: a submit carries its request id, so that it counts once."""
        for left in reversed(range(tries)):
            try:
                reply = self._client.request(method, path, **more)
            except httpx2.TransportError as exc:
                if not left:
                    raise CannotDo(f"{self._client.base_url} cannot be reached: {exc}") from exc
            else:
                if reply.status_code < 500 or not left:
                    return _read(reply)
            time.sleep(POLL_SECONDS)
        raise AssertionError

    def fetch(self, url: str, target: Path) -> int:
        """A result link: no key goes there."""
        half = target.with_name(f".{target.name}.half")
        try:
            with (
                httpx2.stream("GET", url, timeout=ANSWER_SECONDS, follow_redirects=True) as reply,
                half.open("wb") as out,
            ):
                reply.raise_for_status()
                for chunk in reply.iter_bytes(CHUNK_BYTES):
                    out.write(chunk)
            half.replace(target)
        except (httpx2.HTTPError, OSError) as exc:
            raise CannotDo(f"{target} was not fetched: {exc}") from exc
        finally:
            half.unlink(missing_ok=True)
        return target.stat().st_size


def _submit(api: Api, args: argparse.Namespace) -> int:
    names = ("model", "prompt", "size", "fps", "duration", "quality", "seed", "user_id", "request_id")
    body = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    body.setdefault("request_id", f"cli-{time.time_ns()}")
    if args.image:
        body["image_url"] = _image(args.image)
    task = api.ask("POST", "videos/generations", json=body)
    if not args.watch:
        print(json.dumps(task, ensure_ascii=False) if args.json else task["id"])
        return 0
    print(task["id"], file=sys.stderr)
    args.id = task["id"]
    return _watch(api, args)


def _list(api: Api, args: argparse.Namespace) -> int:
    page = api.ask("GET", "videos/generations", params={"limit": args.limit, "after": args.after or ""})
    if args.json:
        print(json.dumps(page, ensure_ascii=False))
        return 0
    for task in page["data"]:
        created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(task["created_at"]))
        print(f"{task['id']}  {created}  {task['task_status']:10}  {task['model']:16}  {_more(task)}")
    if page["has_more"]:
        print(f"more: --after {page['last_id']}", file=sys.stderr)
    return 0


def _show(api: Api, args: argparse.Namespace) -> int:
    print(json.dumps(api.ask("GET", f"async-result/{args.id}"), ensure_ascii=False, indent=None if args.json else 2))
    return 0


def _watch(api: Api, args: argparse.Namespace) -> int:
    """Until the task ends; 0 only for a video."""
    bar = Bar()
    task = api.ask("GET", f"async-result/{args.id}")
    while task["task_status"] == "PROCESSING":
        place = task.get("queue_position")
        bar.show(task.get("progress", 0) / 100, f"place {place} in line" if place else "rendering")
        time.sleep(POLL_SECONDS)
        # A server that was there and restarts comes back.
        task = api.ask("GET", f"async-result/{args.id}", tries=WATCH_TRIES)
    bar.close()
    if task["task_status"] == "SUCCESS":
        print(json.dumps(task, ensure_ascii=False) if args.json else task["video_result"][0]["url"])
        return 0
    raise CannotDo(f"the task ended without a video: {task['error']['message']} ({task['error']['code']})")


def _cancel(api: Api, args: argparse.Namespace) -> int:
    task = api.ask("DELETE", f"async-result/{args.id}")
    print("deleted" if task.get("deleted") else "cancelled" if task["task_status"] == "FAIL" else "asked to stop")
    return 0


def _download(api: Api, args: argparse.Namespace) -> int:
    task = api.ask("GET", f"async-result/{args.id}")
    if task["task_status"] != "SUCCESS":
        raise CannotDo(f"there is no video: the task's status is {task['task_status']}")
    result = task["video_result"][0]
    target = args.to or Path(f"{args.id}.{'jpg' if args.cover else 'mp4'}")
    size = api.fetch(result["cover_image_url" if args.cover else "url"], target)
    print(f"{target} ({size / 1e6:.2f} MB)")
    return 0


def _read(reply: httpx2.Response) -> dict[str, Any]:
    try:
        said = reply.json()
    except ValueError:
        _refuse(f"status {reply.status_code}, not JSON: is this the base URL, ending in /api/paas/v4/?")
    if reply.is_success and isinstance(said, dict):
        return said
    error = said.get("error") if isinstance(said, dict) else None
    return _refuse(f"{error['message']} ({error['code']})" if error else f"status {reply.status_code}")


def _refuse(why: str) -> NoReturn:
    raise CannotDo(why)


def _image(named: str) -> str:
    """A URL as it is; a file as base64."""
    if named.lower().startswith(("http://", "https://")):
        return named
    try:
        return base64.b64encode(Path(named).read_bytes()).decode()
    except OSError as exc:
        raise CannotDo(f"{named}: {exc.strerror}") from exc


def _more(task: dict[str, Any]) -> str:
    if task["task_status"] == "FAIL":
        return str(task["error"]["message"])
    place = task.get("queue_position")
    return f"place {place} in line" if place else f"{task['progress']} %" if "progress" in task else ""


def _known(state: Path, name: str) -> str | None:
    """What `up` has left in its state folder."""
    path = state / name
    return path.read_text().strip() if path.is_file() else None
