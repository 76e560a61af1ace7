"""The options of the larger commands, each worth reading with --help."""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

from cogvideox_server.tenancy import seconds

MAX_AMOUNT = 1e9
"""Of a load or of seconds: more is a slip of the hand, or no number at all."""


def first_of(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def add_jobs(parser: argparse.ArgumentParser, kind: type[argparse.ArgumentParser]) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=kind)

    def add(name: str, what: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        action.add_argument("--json", action="store_true", help="print the server's answer as JSON")
        _add_server(action)
        return action

    submit = add("submit", "queue a video and print its id")
    _add_request(submit)
    listing = add("list", "list your tasks, the newest first")
    listing.add_argument("--limit", type=int, default=20, help="how many, up to 100 (default: %(default)s)")
    listing.add_argument("--after", metavar="ID", help="go on behind this task")
    for name, what in (
        ("show", "print one task"),
        ("watch", "follow a task to its end and print the video's link; exit 1 if there is none"),
        ("cancel", "cancel a task; after its end, delete its video and cover"),
        ("download", "fetch a task's video"),
    ):
        add(name, what).add_argument("id", help="the task's id")
    download = actions.choices["download"]
    download.add_argument("--to", type=Path, metavar="FILE", help="where to (default: ID.mp4)")
    download.add_argument("--cover", action="store_true", help="the cover image instead of the video")


def _add_server(parser: argparse.ArgumentParser) -> None:
    url = first_of("COGVIDEOX_URL", "ZHIPUAI_BASE_URL", "ZAI_BASE_URL")
    key = first_of("COGVIDEOX_API_KEY", "ZHIPUAI_API_KEY", "ZAI_API_KEY")
    parser.add_argument("--url", default=url, help="base URL (default: COGVIDEOX_URL, or the `up` of --state)")
    parser.add_argument("--key", default=key, help="API key (default: COGVIDEOX_API_KEY, or the `up` of --state)")
    parser.add_argument("--state", type=Path, default=Path("state"), help="the state folder of `up` (default: ./state)")


def _add_request(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", help="what to see")
    parser.add_argument("--model", default="cogvideox-2", help="model code (default: %(default)s)")
    parser.add_argument("--image", help="the first frame: a file or a URL")
    parser.add_argument("--size", help="WIDTHxHEIGHT, one of the model's sizes")
    parser.add_argument("--fps", type=int, help="30 or 60")
    parser.add_argument("--duration", type=int, help="seconds: 5 or 10")
    parser.add_argument("--quality", help="speed or quality")
    parser.add_argument("--seed", type=int, help="for the same video again")
    parser.add_argument("--user-id", help="the end user, for the audit trail")
    parser.add_argument("--request-id", help="the same id again returns the same task")
    parser.add_argument("--watch", action="store_true", help="follow it to its end")


def add_queue(parser: argparse.ArgumentParser, kind: type[argparse.ArgumentParser]) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=kind)

    def add(name: str, what: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        action.add_argument("--json", action="store_true", help="print JSON, one line for each job")
        action.add_argument(
            "--state", type=Path, default=Path("state"), help="the state folder of `up` (default: ./state)"
        )
        action.add_argument("--redis-url", help="the Redis to use (default: that of `up`, else COGVIDEOX_REDIS_URL)")
        return action

    add("status", "what waits, runs and lies dead, who is at work, and what is paused")
    listing = add("list", "list jobs of all tenants")
    listing.add_argument(
        "state_of",
        nargs="?",
        metavar="STATE",
        choices=["queued", "delayed", "running", "dead", "ended"],
        default="queued",
        help="queued, delayed, running, dead (failed too often) or ended (default: %(default)s)",
    )
    listing.add_argument("--tenant", help="only this tenant's")
    listing.add_argument("--limit", type=int, default=100, help="how many are looked at (default: %(default)s)")
    add("show", "print a job's whole record").add_argument("id", help="the job's id")
    add("cancel", "cancel jobs, whosever they are").add_argument("id", nargs="+", help="the jobs' ids")
    retry = add("retry", "put failed jobs back in line, as if they had never been tried")
    retry.add_argument("id", nargs="*", help="the jobs' ids")
    retry.add_argument("--dead", action="store_true", help="all that failed too often")
    for name, what in (
        ("pause", "give no more jobs to workers: what runs, runs on, what comes, waits"),
        ("resume", "give jobs to workers again"),
    ):
        add(name, what).add_argument("route", nargs="?", default="*", help="one checkpoint's jobs only (default: all)")


def add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--videos-per-hour", type=_amount, required=True, help="the load")
    parser.add_argument("--model", default="cogvideox-2", help="model code (default: %(default)s)")
    parser.add_argument("--checkpoint", default="cogvideox-1.5-5b", help="the weights (default: %(default)s)")
    parser.add_argument(
        "--gpu", default="h100", help="h200, h100, a100, l40s, rtx4090, a10 or l4 (default: %(default)s)"
    )
    parser.add_argument("--size", default="1920x1080", help="WIDTHxHEIGHT (default: %(default)s)")
    parser.add_argument("--fps", type=int, default=30, help="30 or 60 (default: %(default)s)")
    parser.add_argument("--duration", type=int, default=5, help="seconds: 5 or 10 (default: %(default)s)")
    parser.add_argument("--quality", default="speed", help="speed or quality (default: %(default)s)")
    parser.add_argument(
        "--seconds-per-video", type=_amount, help="device seconds you measured, instead of the prediction"
    )
    parser.add_argument("--catalogue", type=Path, help="your catalogue file")
    parser.add_argument("--json", action="store_true", help="print one JSON line")


def _amount(text: str) -> float:
    if not 0 < (amount := float(text)) <= MAX_AMOUNT:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return amount


def add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", type=Path, help="the state folder (default: COGVIDEOX_STATE, or ./state)")
    parser.add_argument("--model", help="the model to look at (default: COGVIDEOX_MODEL, or tiny)")
    parser.add_argument("--json", action="store_true", help="print one JSON line")


def _add_action_on_state(actions: Any, name: str, what: str) -> argparse.ArgumentParser:
    """An action that works on the Redis of `up`, or on another."""
    action: argparse.ArgumentParser = actions.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    action.add_argument("--state", type=Path, help="the state folder of `up` (default: COGVIDEOX_STATE, or ./state)")
    action.add_argument("--redis-url", help="the Redis to use (default: that of `up`, else COGVIDEOX_REDIS_URL)")
    return action


def add_audit(parser: argparse.ArgumentParser, kind: type[argparse.ArgumentParser]) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=kind)

    add = partial(_add_action_on_state, actions)

    verify = add("verify", "check that nothing was changed, and name the first bad record; exit 1 if there is one")
    verify.add_argument("--json", action="store_true", help="print JSON, one line for each chain")
    verify.add_argument(
        "--first", type=int, default=1, metavar="SEQ", help="begin there: older segments were given away"
    )
    verify.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="[CHAIN:]SEQ:HASH",
        help="a checkpoint kept elsewhere; may be repeated",
    )
    verify.add_argument(
        "--public-key", action="append", default=[], metavar="HEX", help="believe this key alone, as an auditor would"
    )
    verify.add_argument(
        "--old-key", action="append", default=[], type=Path, metavar="FILE", help="an audit or master key used before"
    )
    search = add("search", "print records as JSON lines, the oldest first")
    search.add_argument("--csv", action="store_true", help="print CSV that is safe to open in a spreadsheet")
    for name, what in (
        ("tenant", "of this tenant"),
        ("user", "of this end user (user_id)"),
        ("task", "of this task"),
        ("event", "of this kind"),
        ("since", "from this day or instant on, UTC: 2026-11-21 or 2026-11-21T10:00"),
        ("until", "until this instant, or the end of this day"),
    ):
        search.add_argument(f"--{name}", help=what)
    for action in (verify, search):
        action.add_argument("--offline", action="store_true", help="read the exported files alone, without Redis")
    erase = add("erase", "delete what the audit holds about one end user; the records stay, and the chain holds")
    erase.add_argument("--tenant", required=True, help="whose end user it is")
    erase.add_argument("--user", required=True, help="the user_id")
    erase.add_argument(
        "--jobs", action="store_true", help="also forget the user's jobs that have ended, and their videos"
    )
    add("key", "print the public key that checkpoints are signed with")


def add_users(parser: argparse.ArgumentParser, kind: type[argparse.ArgumentParser]) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=kind)

    add = partial(_add_action_on_state, actions)

    for name, what in (
        ("warn", "let the user's answers carry a warning"),
        ("throttle", "let the user send so many requests a minute and no more"),
        ("block", "refuse the user's new requests"),
    ):
        action = add(name, what)
        _add_user(action)
        action.add_argument("--reason", required=True, help="what the user is told, and the audit")
        action.add_argument(
            "--for", dest="for_s", type=seconds, metavar="TIME", help="until when: 30m, 24h, 7d (default: until lifted)"
        )
    actions.choices["throttle"].add_argument(
        "--per-minute", type=int, default=1, help="requests a minute (default: %(default)s)"
    )
    _add_user(add("lift", "end whatever holds for the user"))
    listing = add("list", "list what holds now")
    listing.add_argument("--tenant", help="only this tenant's users")
    listing.add_argument("--json", action="store_true", help="print one JSON line for each user")


def _add_user(action: argparse.ArgumentParser) -> None:
    action.add_argument("--tenant", required=True, help="whose end user it is")
    action.add_argument("--user", required=True, help="the user_id")
