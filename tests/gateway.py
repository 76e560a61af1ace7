"""A gateway as a process of its own, with real Redis: what is measured is the server, not the test."""

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Self

from server.keys import KeyRing
from video_jobs.links import LinkSigner, secret_file
from video_jobs.queue import lazy_redis

ROOT = Path(__file__).parents[1]


class Gateway:
    def __init__(self, redis_url: str, state: Path, **settings: str) -> None:
        self.redis_url, self.state = redis_url, state
        self.key, self.other_key = asyncio.run(self._keys())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        told = {"REDIS_URL": redis_url, "STATE": str(state), "PORT": str(self.port), "PUBLIC_URL": self.url, **settings}
        environment = {f"COGVIDEOX_{name}": value for name, value in told.items()}
        self.log = (state / "gateway.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "server"],
            env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
            stderr=self.log,
        )
        self._wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"{self.url}/api/paas/v4"

    def link(self, key: str) -> str:
        """The path and query of a signed link."""
        signer = LinkSigner(secret_file(self.state / "link.key"), "")
        return signer.link(key, int(time.time()) + 3600)

    def memory_mb(self, what: str = "VmRSS") -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))

    def forget_peak(self) -> float:
        """Start the kernel's high-water mark anew; the memory in use right now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.memory_mb()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()

    async def _keys(self) -> tuple[str, str]:
        redis = lazy_redis(self.redis_url)
        ring = KeyRing(redis, secret_file(self.state / "master.key"))
        try:
            return await ring.create("acme", "one"), await ring.create("globex", "two")
        finally:
            await redis.aclose()

    def _wait(self) -> None:
        for _ in range(400):
            try:
                urllib.request.urlopen(f"{self.url}/healthz").close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError((self.state / "gateway.log").read_text()[-2000:])
