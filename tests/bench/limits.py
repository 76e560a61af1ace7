"""`make prove-limits`: the gateway's limits at full size, measured in one run. `--write` keeps the table."""

import asyncio
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from cogvideox_server.redis import redis_binary, redis_command, socket_path
from server.settings import MEBIBYTE
from tests.gateway import Gateway
from tests.integration.gateway import load

LIMIT = 7 * MEBIBYTE
Rows = list[tuple[str, str, str]]


async def sizes(gateway: Gateway) -> Rows:
    rows = []
    for name, size in (
        ("7 MiB - 1", LIMIT - 1),
        ("7 MiB", LIMIT),
        ("7 MiB + 1", LIMIT + 1),
        ("400 MiB", 400 * MEBIBYTE),
    ):
        body = load.body_of(size)
        before = gateway.forget_peak()
        declared, _ = await load.exchange(gateway.port, load.head_of(gateway.key, size), body)
        chunked, _ = await load.exchange(gateway.port, load.head_of(gateway.key), body, chunked=True)
        grown = gateway.memory_mb("VmHWM") - before
        rows.append((f"body of {name}", f"{declared} declared, {chunked} chunked; +{grown:.0f} MB", ""))
    return rows


async def together(gateway: Gateway, count: int) -> Rows:
    body = load.picture_body(LIMIT)
    gateway.forget_peak()
    statuses = await load.post_together(gateway, count, body)
    told = ", ".join(f"{n} answered {status}" for status, n in sorted(statuses.items()))
    peak = gateway.memory_mb("VmHWM")
    return [(f"{count} bodies of 7 MiB, each a picture, at once", f"{told}; peak memory {peak:.0f} MB", "under 400 MB")]


async def slow(gateway: Gateway, count: int) -> Rows:
    video = gateway.state / "results" / "videos" / "large.mp4"
    video.parent.mkdir(parents=True, exist_ok=True)
    video.write_bytes(bytes(64 * MEBIBYTE))
    await load.latencies_ms(gateway, 200)
    alone = load.middle_and_slow(await load.latencies_ms(gateway, 400))
    gateway.forget_peak()
    async with load.slow_clients(gateway, count, gateway.link("videos/large.mp4")) as met:
        crowded = load.middle_and_slow(await load.latencies_ms(gateway, 400))
        await asyncio.sleep(12)
        later = load.middle_and_slow(await load.latencies_ms(gateway, 400))
    rows = [("a healthy client alone, median and 95th percentile", f"{alone[0]:.1f} and {alone[1]:.1f} ms", "")]
    for when, spent in (("at first", crowded), ("12 s later", later)):
        ratios = f"{spent[0] / alone[0]:.1f}x and {spent[1] / alone[1]:.1f}x"
        told = f"{spent[0]:.1f} and {spent[1]:.1f} ms: {ratios}"
        rows.append((f"the same beside {count} slow clients, {when}", told, "under 3x"))
    peak = gateway.memory_mb("VmHWM")
    return [*rows, ("connections that they made; peak memory", f"{sum(met.values())}; {peak:.0f} MB", "")]


async def thrown(gateway: Gateway) -> Rows:
    seen = await load.throw_bombs(gateway, 1_000_000_000)
    return [
        (f"picture: {name}, {size / 1e6:.1f} MB", f"{status}; +{max(0, grown):.0f} MB", "+50 MB at most")
        for name, size, status, grown in seen
    ]


def main() -> None:
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        path = socket_path(state)
        redis = subprocess.Popen(redis_command(redis_binary(), state, path), stdout=subprocess.DEVNULL)
        while not path.exists():
            pass
        try:
            with Gateway(f"unix://{path}", state) as gateway:
                rows = asyncio.run(sizes(gateway)) + asyncio.run(together(gateway, 200))
            with Gateway(f"unix://{path}", state) as gateway:
                rows += asyncio.run(slow(gateway, 500)) + asyncio.run(thrown(gateway))
        finally:
            redis.terminate()
            redis.wait()
    table = [
        "| what is sent | what comes of it | aim |",
        "|---|---|---|",
        *(f"| {a} | {b} | {c} |" for a, b, c in rows),
    ]
    head = (
        f"`make prove-limits ARGS=--write` on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}. Memory is the gateway process's own, at its highest; a 1 GB bomb is what "
        f"unpacks to that. The clients ran on the same cores, whose load was {load_before:.0f} before this began: "
        "latencies mean something on an idle machine only."
    )
    text = f"# The limits\n\n{head}\n\n" + "\n".join(table) + "\n"
    print(text)
    if "--write" in sys.argv:
        (ROOT / "docs" / "benchmarks" / "limits.md").write_text(text)


if __name__ == "__main__":
    main()
