"""`cogvideox-server doctor`: looks at everything a deployment stands on, and says what to do about each failure."""

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from cogvideox_server.redis import NoRedisHere, find_redis, redis_binary
from gpu_worker.settings import WorkerSettings
from server.health import redis_problems
from server.settings import GatewaySettings
from video_jobs.fragment import CONFIG, PREFIX, read_settings
from video_jobs.links import BadSecretFile, LinkSigner, open_links, secret_file
from video_jobs.queue import BadRedisUrl, lazy_redis
from video_jobs.results import FolderStore, open_results

MIN_PYTHON, MIN_REDIS = (3, 11), (6, 2)
MAX_CLOCK_SECONDS, MIN_FREE_GB, EXAMINE_SECONDS = 5.0, 5.0, 600.0
OWN_VARIABLES = {CONFIG, f"{PREFIX}URL", f"{PREFIX}API_KEY"}
PROBE = "doctor/probe.txt"


class Finding(NamedTuple):
    name: str
    is_fine: bool
    said: str
    cure: str = ""


class Patient:
    """The settings as the processes would read them."""

    def __init__(self, args: argparse.Namespace) -> None:
        given = {name: getattr(args, name) for name in ("state", "model") if getattr(args, name)}
        os.environ.update({f"{PREFIX}{name.upper()}": str(value) for name, value in given.items()})
        self.gateway, self.worker = read_settings(GatewaySettings), read_settings(WorkerSettings)

    @property
    def redis_url(self) -> str | None:
        """None when nobody named one and no `up` runs: then `up` would start its own."""
        is_named = "redis_url" in self.gateway.model_fields_set
        named = self.gateway.redis_url.get_secret_value() if is_named else None
        return find_redis(None, self.gateway.state) or named


def doctor(args: argparse.Namespace) -> int:
    findings = [finding for look in LOOKS for finding in look(Patient(args))]
    if args.json:
        print(json.dumps({"fine": all(f.is_fine for f in findings), "findings": [f._asdict() for f in findings]}))
    else:
        for finding in findings:
            print(f"{'ok  ' if finding.is_fine else 'FAIL'}  {finding.name:10} {finding.said}")
            if not finding.is_fine:
                print(f"      {'':10} -> {finding.cure}")
    return 0 if all(finding.is_fine for finding in findings) else 1


def python(_patient: Patient) -> Iterator[Finding]:
    said = f"{sys.version.split()[0]} at {sys.executable}"
    yield Finding("python", sys.version_info >= MIN_PYTHON, said, "install Python 3.11 or newer")


def settings(_patient: Patient) -> Iterator[Finding]:
    """A misspelt name is silent everywhere else."""
    known = {name for kind in (GatewaySettings, WorkerSettings) for name in kind.model_fields}
    variables = {f"{PREFIX}{name.upper()}{ending}" for name in known for ending in ("", "_FILE")} | OWN_VARIABLES
    strange = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in variables)
    path = os.environ.get(CONFIG)
    if path:
        strange += sorted(set(tomllib.loads(Path(path).read_text())) - known)
    said = f"unknown: {', '.join(strange)}" if strange else "all names are known"
    yield Finding("settings", not strange, said, "see docs/configuration.md for the names")


def redis(patient: Patient) -> Iterator[Finding]:
    if patient.redis_url is not None:
        try:
            yield from asyncio.run(_redis(patient.redis_url))
        except BadRedisUrl as error:
            yield Finding("redis", False, str(error), "mend COGVIDEOX_REDIS_URL")
        return
    try:
        yield Finding("redis", True, f"`up` would start {redis_binary()}")
    except NoRedisHere as error:
        yield Finding("redis", False, str(error), "install valkey-server or redis-server, or set COGVIDEOX_REDIS_URL")


async def _redis(url: str) -> list[Finding]:
    client = lazy_redis(url)
    try:
        about, clock = await client.info("server"), await client.time()
        version = str(about["redis_version"])
        number = tuple(map(int, version.split(".")[:2]))
        problems = await redis_problems(client)
    except (RedisError, OSError) as exc:
        cure = "start Redis, or mend COGVIDEOX_REDIS_URL"
        return [Finding("redis", False, f"does not answer: {str(exc) or type(exc).__name__}", cure)]
    finally:
        await client.aclose()
    skew = abs(clock[0] + clock[1] / 1e6 - time.time())
    return [
        Finding("redis", number >= MIN_REDIS, f"version {version}", "install Redis 6.2 or newer, or Valkey"),
        Finding(
            "redis",
            not problems,
            "; ".join(problems) or "keeps what it is told",
            "lost jobs are possible: set what is named in redis.conf",
        ),
        Finding("clock", skew < MAX_CLOCK_SECONDS, f"{skew:.1f} s away from Redis's", "run an NTP service on both"),
    ]


def store(patient: Patient) -> Iterator[Finding]:
    """Written, read back, opened by its link as a client would, and deleted."""
    given, cure = patient.gateway, "mend COGVIDEOX_STORE and its S3 settings, or the rights on the state folder"
    named = f"s3://{given.s3_bucket}" if given.store == "s3" else str(given.state / "results")
    try:
        results = open_results(given)
        with tempfile.TemporaryDirectory() as scratch:
            said, back = Path(scratch) / "said", Path(scratch) / "back"
            said.write_text("written by doctor")
            results.put(PROBE, said, "text/plain")
            results.fetch(PROBE, back)
            is_same = back.read_bytes() == said.read_bytes()
        yield Finding("store", is_same, f"{named} is written and read", cure)
        signer = LinkSigner(secret_file(given.link_key), given.public_url)
        links = open_links(given, results, signer)
        if isinstance(results, FolderStore) or links is signer:
            yield Finding("links", True, "answered by the gateway")
        else:
            yield _opened(links.link(PROBE, int(time.time()) + 60))
        results.delete(PROBE)
    except BadSecretFile as exc:
        yield Finding("links", False, str(exc), "write 32 random bytes there")
    except (OSError, KeyError, ValueError) as exc:
        yield Finding("store", False, f"{named}: {exc}", cure)


def _opened(link: str) -> Finding:
    cure = "mend COGVIDEOX_S3_PUBLIC_ENDPOINT (what clients reach), or set COGVIDEOX_LINKS=gateway"
    try:
        with urllib.request.urlopen(link, timeout=10) as reply:  # noqa: S310  # our own link
            return Finding("links", reply.status == 200, "a link opens", cure)
    except (urllib.error.URLError, OSError) as exc:
        return Finding("links", False, f"a link does not open: {exc}", cure)


def engine(patient: Patient) -> Iterator[Finding]:
    """Device, model and tokenizer, looked at in a process of their own: torch is not for this one."""
    given = patient.worker
    command = [sys.executable, "-P", "-m", "gpu_worker.engine.examine", "--model", given.model]
    command += ["--models", str(given.state / "models"), "--device", given.device]
    command += ["--catalogue", str(given.catalogue)] if given.catalogue else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=EXAMINE_SECONDS)
        said = json.loads(done.stdout) if done.returncode == 0 else {}
    except (subprocess.TimeoutExpired, ValueError):
        said = {}
    if not said:
        cure = "pip install 'cogvideox-server[worker]'; a gateway alone needs none of it"
        yield Finding("device", False, "torch and diffusers do not start here", cure)
        return
    yield _device(said, given)
    yield from _model(said["model"], patient)


def _device(said: dict[str, Any], given: WorkerSettings) -> Finding:
    found, cure = said["device"], "install the driver for this torch, or set COGVIDEOX_DEVICE=cpu"
    if problems := found.get("problems"):
        return Finding("device", False, "; ".join(problems), cure)
    memory = f", {found['free_gb']} of {found['total_gb']} GB free" if "free_gb" in found else ""
    is_fine = given.device != "cuda" or "free_gb" in found
    return Finding("device", is_fine, f"{found['name']}{memory}; torch {said['torch']}", cure)


def _model(found: dict[str, Any], patient: Patient) -> Iterator[Finding]:
    name = patient.worker.model
    problems = found["problems"]
    yield Finding("model", not problems, "; ".join(problems) or f"{name} at {found['folder']}", f"models pull {name}")
    if "unknown_chinese" not in found:
        return
    given = patient.gateway
    is_read = found["unknown_chinese"] < 0.5
    if is_read or given.has_rewriter or given.accept_unknown_prompts:
        yield Finding("tokenizer", True, "reads Chinese" if is_read else "knows no Chinese; a rewriter is set")
    else:
        cure = "set COGVIDEOX_REWRITER_URL, or callers must write English"
        yield Finding("tokenizer", False, "knows no Chinese: such prompts are refused with 1214", cure)


def port(patient: Patient) -> Iterator[Finding]:
    host, number = patient.gateway.host, patient.gateway.port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
            yield Finding("port", True, f"{host}:{number} is free")
        except OSError as exc:
            is_ours = _is_gateway(f"http://{host}:{number}/healthz")
            said = "is served by a gateway" if is_ours else f"cannot be listened on: {exc.strerror}"
            yield Finding("port", is_ours, f"{host}:{number} {said}", "choose another COGVIDEOX_PORT or --port")


def _is_gateway(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=3) as reply:  # noqa: S310  # this machine's own port
            return bool(json.load(reply) == {"status": "alive"})
    except (urllib.error.URLError, OSError, ValueError):
        return False


def disk(patient: Patient) -> Iterator[Finding]:
    for name, folder in (("state", patient.worker.state), ("scratch", patient.worker.scratch_folder)):
        there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
        free = shutil.disk_usage(there).free / 1e9
        is_fine = free > MIN_FREE_GB and os.access(there, os.W_OK)
        said = f"{name}: {free:.1f} GB free at {there}" + ("" if os.access(there, os.W_OK) else ", not writable")
        yield Finding("disk", is_fine, said, f"free {MIN_FREE_GB:.0f} GB, or set COGVIDEOX_{name.upper()}")


LOOKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (python, settings, redis, store, engine, port, disk)
