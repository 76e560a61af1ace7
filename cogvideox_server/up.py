"""`cogvideox-server up`: everything on one machine, as separate processes, with embedded defaults."""

import argparse
import asyncio
import contextlib
import fcntl
import http.client
import json
import math
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from redis.exceptions import RedisError

from cogvideox_server.checkpoints import NoSuchCheckpoint, named_checkpoint
from cogvideox_server.devices import devices, gpus, per_job
from cogvideox_server.redis import NoRedisHere, forget_socket, redis_binary, redis_command, socket_path
from cogvideox_server.supervisor import Supervisor
from gpu_worker.settings import WorkerSettings
from server.settings import GatewaySettings
from video_jobs.catalogue import load_catalogue
from video_jobs.fragment import read_settings
from video_jobs.links import secret_file
from video_jobs.queue import lazy_redis
from video_jobs.settings import ModelSettings, QueueSettings

READY_SECONDS = 120.0
PREFIX = "/api/paas/v4/"

SNIPPET = """
    import time
    from zhipuai import ZhipuAI                          # pip install zhipuai sniffio

    client = ZhipuAI(api_key="{key}",
                     base_url="{url}")
    task = client.videos.generations(model="cogvideox-2", size="720x480",
                                     prompt="a red circle moves right on a blue background")
    while (result := client.videos.retrieve_videos_result(id=task.id)).task_status == "PROCESSING":
        time.sleep(2)
    print(result.task_status, result.video_result)
"""


class CannotStart(Exception):
    """One line that says why, and what to do."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def up(args: argparse.Namespace) -> int:
    _settle(args)
    try:
        with _alone(args.state):
            house = House(args)
            args.checkpoint = named_checkpoint(args.model, args.checkpoint)
            _pull(args.model, args.state)
            return house.run()
    except (CannotStart, NoRedisHere, NoSuchCheckpoint) as error:
        say(f"cogvideox-server up: {error}")
        return 1
    except (RedisError, OSError) as error:
        # Neither says a password: Redis's errors name the host alone.
        say(f"cogvideox-server up: {error or type(error).__name__}")
        return 1
    except KeyboardInterrupt:
        return 130


def _settle(args: argparse.Namespace) -> None:
    """What no option says is as it is set; a wrong setting is told now, not by a child that cannot start."""
    gateway, worker = read_settings(GatewaySettings), read_settings(WorkerSettings)
    kept = {"host": gateway.host, "port": gateway.port, "state": gateway.state}
    kept |= {"model": worker.model, "device": worker.device}
    if "checkpoint" in worker.model_fields_set:
        kept["checkpoint"] = worker.checkpoint
    for name, value in kept.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def _pull(model: str, state: Path) -> None:
    """Weights that are not here yet come before anything starts: with a bar, and one line if they cannot come."""
    if model in ("tiny", "tiny-random") or Path(model).is_dir():
        return
    from gpu_worker.weights.pull import model_folder
    from video_jobs.errors import ModelUnavailable

    try:
        catalogue = load_catalogue(read_settings(ModelSettings).catalogue)
        model_folder(model, state / "models", say, catalogue=catalogue)
    except ModelUnavailable as exc:
        raise CannotStart(str(exc)) from exc


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One `up` per state folder; the second is told who holds it."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "up.pid").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            lock.seek(0)
            raise CannotStart(f"{state} is in use by the `up` with pid {lock.read().strip()}") from exc
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


class House:
    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._state: Path = args.state.resolve()
        self._supervisor = Supervisor(say)
        self._signals = 0
        self._told = ""
        self._named = read_settings(QueueSettings)
        self._port = _free_port(args.host, args.port)
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(args.host, args.host)  # noqa: S104  # compared, not bound
        self._origin = f"http://{f'[{shown}]' if ':' in shown else shown}:{self._port}"

    def run(self) -> int:
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, self._note_signal)
        started = time.monotonic()
        try:
            self._start()
            self._show(time.monotonic() - started)
            while not self._signals:
                self._supervisor.tend()
                time.sleep(0.2)
        except _Stopped:
            pass
        finally:
            say("stopping; again to stop at once")
            self._supervisor.stop(lambda: self._signals > 1)
        return 0

    def _note_signal(self, *_: object) -> None:
        self._signals += 1

    def _start(self) -> None:
        environment = self._environment()
        redis_url = self._named.redis_url.get_secret_value() if "redis_url" in self._named.model_fields_set else ""
        if redis_url:
            say("using the Redis that is named")
            # Else `keys` would ask the one that is gone.
            forget_socket(self._state)
        else:
            redis_url = environment["COGVIDEOX_REDIS_URL"] = self._start_redis()
        say(f"starting the gateway at {self._origin}")
        self._key = asyncio.run(_first_key(self._state, redis_url))
        self._supervisor.start("gateway", [sys.executable, "-P", "-m", "server"], environment)
        self._wait(self._gateway_is_ready, "the gateway is not ready")
        say(f"starting {self._workers} worker(s) with the model {self._args.model} (the first start makes or loads it)")
        for number in range(self._workers):
            own = environment | devices(number, per_job(), gpus(self._args.device))
            self._supervisor.start("worker", [sys.executable, "-P", "-m", "gpu_worker"], own)
        self._wait(
            lambda: asyncio.run(_ready_workers(redis_url)) >= self._workers,
            "no worker is ready",
            # Tens of gigabytes may have to be read from a slow disk.
            seconds=math.inf,
        )

    @property
    def _workers(self) -> int:
        return int(self._args.workers or max(1, gpus(self._args.device) // per_job()))

    def _environment(self) -> dict[str, str]:
        model = self._args.model
        return {
            "COGVIDEOX_STATE": str(self._state),
            "COGVIDEOX_HOST": self._args.host,
            "COGVIDEOX_PORT": str(self._port),
            "COGVIDEOX_PUBLIC_URL": os.environ.get("COGVIDEOX_PUBLIC_URL", self._origin),
            "COGVIDEOX_MODEL": str(Path(model).resolve()) if Path(model).is_dir() else model,
            "COGVIDEOX_CHECKPOINT": self._args.checkpoint,
            "COGVIDEOX_DEVICE": self._args.device,
            **({"COGVIDEOX_TENANTS_FILE": str(self._args.tenants.resolve())} if self._args.tenants else {}),
            "COGVIDEOX_LOG_LEVEL": os.environ.get("COGVIDEOX_LOG_LEVEL", "WARNING"),
        }

    def _start_redis(self) -> str:
        binary, path = redis_binary(), socket_path(self._state)
        say(f"starting Redis ({binary}), append-only, in {self._state / 'redis'}")
        self._supervisor.start("redis", redis_command(binary, self._state, path), {})
        self._wait(lambda: _listens(path), "Redis did not start")
        return f"unix://{path}"

    def _gateway_is_ready(self) -> bool:
        """What keeps it is said, once."""
        reason = _reason_not_ready(f"{self._origin}/readyz")
        if reason and reason != self._told:
            say(f"not ready: {reason}")
            self._told = reason
        return reason is None

    def _wait(self, is_there: Callable[[], bool], otherwise: str, seconds: float = READY_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not is_there():
            if self._signals:
                raise _Stopped
            if (dead := self._supervisor.dead()) or time.monotonic() > deadline:
                raise CannotStart(f"{f'{dead} ended' if dead else otherwise}; its messages are above")
            time.sleep(0.1)

    def _show(self, seconds: float) -> None:
        base_url = self._origin + PREFIX
        (self._state / "address").write_text(base_url)
        if self._args.json:
            pids: dict[str, object] = {"redis": next(iter(self._supervisor.pids("redis")), None)}
            pids |= {"gateway": self._supervisor.pids("gateway")[0], "workers": self._supervisor.pids("worker")}
            ready = {"base_url": base_url, "api_key": self._key, "state": str(self._state), "pids": pids}
            print(json.dumps(ready), flush=True)
            return
        print(f"\nReady in {seconds:.1f} s.\n\n  URL   {base_url}\n  key   {self._key}", flush=True)
        print(SNIPPET.format(key=self._key, url=base_url) + "\nCtrl-C stops everything.", flush=True)


class _Stopped(Exception):
    """A signal came while starting."""


async def _first_key(state: Path, redis_url: str) -> str:
    """The key this state folder has shown since its first start."""
    from server.keys import KeyRing
    from video_jobs.store import JobStore
    from video_jobs.tenants import TenantBook

    shown = state / "first-key"
    redis = lazy_redis(redis_url)
    try:
        ring = KeyRing(redis, secret_file(state / "master.key"))
        if shown.is_file() and await ring.find(shown.read_text().partition(".")[0]):
            return shown.read_text()
        await TenantBook(JobStore(redis)).welcome("default")
        key = await ring.create("default", "first key of this machine")
        with os.fdopen(os.open(shown, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(key)
        return key
    finally:
        await redis.aclose()


async def _ready_workers(redis_url: str) -> int:
    from video_jobs.workers import WorkerRegistry

    redis = lazy_redis(redis_url)
    try:
        return len(await WorkerRegistry(redis).ready())
    except RedisError:
        # One of ours that died is told by name; another may come back.
        return 0
    finally:
        await redis.aclose()


def _free_port(host: str, wanted: int = 0) -> int:
    """The wanted port, or any for 0. One in use would be answered by somebody else's server."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as exc:
            raise CannotStart(f"{host}:{wanted} cannot be listened on ({exc.strerror}); choose another --port") from exc
        return int(probe.getsockname()[1])


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _reason_not_ready(url: str) -> str | None:
    """None when it is ready; empty while it does not answer yet."""
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310  # our own gateway
            return None
    except urllib.error.HTTPError as refused:
        return "; ".join(json.load(refused).get("problems", []))
    except (OSError, ValueError, http.client.HTTPException):
        return ""
