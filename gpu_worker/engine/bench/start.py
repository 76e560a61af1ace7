"""`cogvideox-server bench start`: how long an engine takes to be ready, with nothing compiled yet and after."""

import argparse
import asyncio
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gpu_worker.engine.bench.report import document
from gpu_worker.engine.load import pick_device
from gpu_worker.engine.process import Child

PARTS = ("imports", "load", "kernels", "warm-up")


async def started(command: list[str]) -> dict[str, float]:
    """Seconds of each part of one start, and of all."""
    child, began = Child("engine", command), time.monotonic()
    try:
        ready = await child.start()
        return ready.start_seconds | {"total": round(time.monotonic() - began, 3)}
    finally:
        await child.kill()


def markdown(said: dict[str, object], first: dict[str, float], second: dict[str, float]) -> str:
    rows = [f"| {part} | {first[part]:.2f} | {second[part]:.2f} |" for part in (*PARTS, "total")]
    share = second["total"] / first["total"]
    lines = [f"# {said['title']}", "", f"`{said['command']}` on {said['date']}: {said['device']}.", ""]
    lines += ["| seconds | first start | second start |", "|---|---|---|", *rows, ""]
    return "\n".join([*lines, f"The second start takes {share:.2f} of the first (aim: at most 0.5).", ""])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="cogvideox-server bench start", description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--models", type=Path, default=Path("state/models"))
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", default="on")
    parser.add_argument("--write", type=Path, help="write PATH.json and PATH.md")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "gpu_worker.engine", "--model", args.model, "--models", str(args.models)]
        command += ["--checkpoint", args.checkpoint, "--device", args.device, "--compile", args.compile]
        command += ["--compile-cache", str(Path(folder) / "compiled"), "--log-level", "WARNING"]
        first, second = (asyncio.run(started(command)) for _ in range(2))
    title = f"Cold start: {args.model}, compile {args.compile}"
    said_as = shlex.join(["cogvideox-server", "bench", "start", *(arguments or sys.argv[1:])])
    said = document(title, said_as, pick_device(args.device), [{"first": first}, {"second": second}])
    print(markdown(said, first, second))
    if args.write:
        args.write.with_suffix(".json").write_text(json.dumps(said, indent=2) + "\n")
        args.write.with_suffix(".md").write_text(markdown(said, first, second))


if __name__ == "__main__":
    main()
