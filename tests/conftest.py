"""Fixtures that every room shares: a real Redis on a unix socket, emptied for each test."""

import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
from arq.connections import ArqRedis

from cogvideox_server.redis import redis_binary
from video_jobs.queue import open_redis

ON_THE_SERVICE = {f"tests/e2e/test_{name}.py" for name in ("sdks", "painting", "up", "jobs_command")}


@pytest.fixture(scope="session")
def redis_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One append-only Redis for the whole run; `appendfsync always`, as in production."""
    binary = redis_binary()
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "redis.sock"
    args = [binary, "--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", ""]
    args += ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
    with (folder / "log").open("wb") as log, subprocess.Popen(args, stdout=log, stderr=log) as process:
        _wait_for(path)
        yield path
        process.terminate()


@pytest.fixture
def redis_url(redis_socket: Path) -> str:
    """The address of an empty Redis."""
    with redis.Redis(unix_socket_path=str(redis_socket)) as client:
        client.flushall()
    return f"unix://{redis_socket}"


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[ArqRedis]:
    client = await open_redis(redis_url)
    yield client
    await client.aclose()


def _wait_for(path: Path) -> None:
    for _ in range(200):
        if path.exists():
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(path))
                return
            except ConnectionRefusedError:
                pass
        time.sleep(0.02)
    raise RuntimeError(f"no Redis at {path}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that none is left to run alone at the end."""
    items.sort(key=lambda item: not {"e2e", "faults", "chart"} & set(item.path.parts))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Side by side by file; but all that needs the one running service goes to one process, which starts it once, and
    so do the chart's tests, which share what they have installed."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if file in ON_THE_SERVICE:
                return "the service"
            return "the chart" if file.startswith("tests/chart/") else file

    return ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where FORBID_SKIPS is set, a test that skipped has failed: the machine was to have all it needs."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("FORBID_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
