"""The command line of `cogvideox-server`. Each part is imported only when it is asked for."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from cogvideox_server.options import add_audit, add_doctor, add_jobs, add_plan, add_queue, add_users
from cogvideox_server.tenancy import add_keys, add_tenants


class OneLineParser(argparse.ArgumentParser):
    """A wrong option gets one clear line, not the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="cogvideox-server", description="A self-hosted server for Zhipu's CogVideoX video API.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=OneLineParser)
    _add_up(commands.add_parser("up", help="run everything on this machine", description=_UP))
    for name, what in (("gateway", _GATEWAY), ("worker", _WORKER)):
        commands.add_parser(name, help=what.partition(":")[0], description=what)
    add_keys(commands.add_parser("keys", help="make, roll and revoke API keys", description=_KEYS), OneLineParser)
    add_tenants(commands.add_parser("tenants", help="tenants, limits, usage", description=_TENANTS), OneLineParser)
    _add_models(commands.add_parser("models", help="list, pull and verify weights", description=_MODELS))
    add_jobs(commands.add_parser("jobs", help="submit and follow videos", description=_JOBS), OneLineParser)
    add_queue(commands.add_parser("queue", help="look into the queue and change it", description=_QUEUE), OneLineParser)
    add_plan(commands.add_parser("plan", help="how many GPUs a load needs", description=_PLAN))
    add_doctor(commands.add_parser("doctor", help="check this machine and say what to do", description=_DOCTOR))
    add_audit(commands.add_parser("audit", help="check, search and erase the audit", description=_AUDIT), OneLineParser)
    _add_bench(commands.add_parser("bench", help="measure the engine on this machine", description=_BENCH))
    add_users(
        commands.add_parser("users", help="warn, throttle or block an end user", description=_USERS), OneLineParser
    )
    commands.add_parser("version", help="print the version", description="Print the version.")
    return parser


_UP = (
    "Run everything on this machine: Redis (REDIS_URL, or one from PATH, or the bundled one), the gateway, the "
    "workers, and results as files in the state folder. Prints the base URL, an API key and a snippet to paste. "
    "Ctrl-C stops everything; started again on the same folder, keys, jobs and results are still there."
)
_GATEWAY = "run one gateway: HTTP in, jobs out. Configured by COGVIDEOX_… variables, see docs/configuration.md."
_WORKER = "run one GPU worker: a job id in, a video in the store. Configured by COGVIDEOX_… variables."
_JOBS = "Videos on any server of this kind, by its URL and an API key. Errors are one line and exit 1."
_QUEUE = "The operator's hands on all tenants' jobs, by way of Redis. Every change is audited with who made it."
_PLAN = "How many GPUs a load needs, from the cost model: operations counted, the GPU's published peak, 80 % busy."
_AUDIT = (
    "The audit trail: every change of a job, refusals, links given out and operators' calls, chained and signed. "
    "Redis and the exported files are read as one."
)
_USERS = "Measures against one end user (user_id) of a tenant, by way of Redis. They hold at once and are audited."
_DOCTOR = (
    "Check Python, settings, Redis, the store, device, model, tokenizer, clock, port and disk, and say what to do "
    "about each failure. Exit 1 if one fails."
)
_BENCH = (
    "`bench engine` measures the stock pipeline and our variants on random weights of any published shape; `bench "
    "start` measures a cold start and a warm one. Each takes --help."
)
_MODELS = (
    "Weights: from the Hugging Face hub (HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN are honoured) or from ModelScope, "
    "by the hubs' own libraries."
)
_TENANTS = (
    "Tenants, their plans and limits, and what they used. A change holds for the next request. Found: the Redis of "
    "`up` in the state folder, else COGVIDEOX_REDIS_URL."
)
_KEYS = "API keys, `id.secret`. Found: the Redis of `up` in the state folder, else COGVIDEOX_REDIS_URL."


def _add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on (default: COGVIDEOX_HOST, or 127.0.0.1)")
    parser.add_argument(
        "--port", type=_port, help="port to listen on; 0 takes a free one (default: COGVIDEOX_PORT, or 8000)"
    )
    parser.add_argument(
        "--state", type=Path, help="folder of jobs, results and keys (default: COGVIDEOX_STATE, or ./state)"
    )
    parser.add_argument("--workers", type=_count, help="how many workers (default: one for each GPU, else one)")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], help="where to render (default: COGVIDEOX_DEVICE, or auto)"
    )
    parser.add_argument(
        "--model", help="`tiny`, a folder, or a hub id in diffusers layout (default: COGVIDEOX_MODEL, or tiny)"
    )
    said = "the catalogue's name for these weights (default: COGVIDEOX_CHECKPOINT, or found out)"
    parser.add_argument("--checkpoint", help=said)
    parser.add_argument("--tenants", type=_file, metavar="FILE", help="a YAML file of tenants, plans, limits, policies")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON line on stdout when ready, all else on stderr"
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=OneLineParser)
    said = "The catalogue's checkpoints with their licences, and what was pulled."
    listing = actions.add_parser("list", help="what can be rendered, and what lies on disk", description=said)
    said = "Pull the files that are needed, going on where an earlier pull stopped, check them, print their folder."
    pull = actions.add_parser("pull", help="download weights from a hub", description=said)
    pull.add_argument("name", help="a checkpoint of the catalogue, ORG/NAME, or modelscope:ORG/NAME")
    pull.add_argument("--revision", help="branch, tag or commit (default: the hub's main one)")
    said = "Read every byte of what was pulled and compare it with its checksums."
    verify = actions.add_parser("verify", help="check pulled weights", description=said)
    verify.add_argument("name", nargs="?", help="part of a model's name, or a folder (default: all)")
    for action in (listing, pull, verify):
        action.add_argument(
            "--models", type=Path, default=Path("state/models"), help="the folder of models (default: %(default)s)"
        )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return int(text)


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is not a number of workers")
    return int(text)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["engine", "start"], help="what to measure")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="its own options")


def main() -> int:
    args = build_parser().parse_args()
    if args.command == "version":
        print(metadata.version("cogvideox-server"))
        return 0
    if args.command == "bench":
        module = {"engine": "gpu_worker.engine.bench", "start": "gpu_worker.engine.bench.start"}[args.what]
        os.execv(sys.executable, [sys.executable, "-P", "-m", module, *args.rest])  # noqa: S606  # likewise
    if package := {"gateway": "server", "worker": "gpu_worker"}.get(args.command):
        os.execv(sys.executable, [sys.executable, "-P", "-m", package])  # noqa: S606  # an argument list, no shell
    # Every other command is a module of this package, with a function of the same name.
    run = getattr(importlib.import_module(f"cogvideox_server.{args.command}"), args.command)
    return _told_in_a_line(args.command, lambda: int(run(args)))


def _told_in_a_line(command: str, run: Callable[[], int]) -> int:
    """What an operator wrote wrongly is no traceback."""
    from pydantic import ValidationError

    from video_jobs.fragment import BadSettingFile
    from video_jobs.links import BadSecretFile
    from video_jobs.queue import BadRedisUrl

    try:
        return run()
    except (BadSecretFile, BadRedisUrl, BadSettingFile) as error:
        why = str(error)
    except ValidationError as error:
        why = "; ".join(problem["msg"] for problem in error.errors())
    print(f"cogvideox-server {command}: {why}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
