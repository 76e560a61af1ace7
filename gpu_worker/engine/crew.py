"""The leader's crew: the other ranks as processes, which end with it, and it with them."""

import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gpu_worker.engine.predict import Conditions, Predictor
from gpu_worker.engine.protocol import OUT_OF_MEMORY
from gpu_worker.engine.ranks import Ranks, join
from gpu_worker.engine.tiles import decode_shared
from video_jobs.job import RenderPlan

LOST_A_RANK = 70
WATCH_EVERY_SECONDS, LAST_WORDS_SECONDS = 0.2, 10.0

logger = logging.getLogger(__name__)


class Crew:
    """Started by the engine before it loads: the others load at the same time."""

    def __init__(self, world: int, arguments: Sequence[str], branches: int = 0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cogvideox-ranks-")
        self._meeting = Path(self._folder.name) / "meeting"
        self._world, self._branches = world, branches
        self._followers = [self._start(rank, arguments) for rank in range(1, world)]
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def pids(self) -> list[int]:
        return [follower.pid for follower in self._followers]

    def join(self, device: torch.device) -> Ranks:
        return join(0, self._world, self._meeting, device, self._branches)

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """After a failure here nobody knows at which step the others wait, and no crew out of step takes a job."""
        try:
            yield
        except RuntimeError as error:
            logger.exception("a render by several devices failed")
            if isinstance(error, torch.OutOfMemoryError):
                os._exit(OUT_OF_MEMORY)
            # If it began with another rank, the watch knows better, once that one has ended.
            time.sleep(1.5 * LAST_WORDS_SECONDS)
            os._exit(LOST_A_RANK)

    def _start(self, rank: int, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-m", "gpu_worker.engine.follow", "--rank", str(rank)]
        command += ["--world", str(self._world), "--branches", str(self._branches)]
        command += ["--meeting", str(self._meeting), *arguments]
        # The pipe tells a follower that its leader lived when it began.
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.stderr.fileno())

    def _watch(self) -> None:
        """A collective with a dead rank never ends: the engine ends instead, and with it the attempt."""
        while all(follower.poll() is None for follower in self._followers):
            time.sleep(WATCH_EVERY_SECONDS)
        # The first to end may only have lost its connection to the one that ran out.
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        while None in [follower.poll() for follower in self._followers] and time.monotonic() < deadline:
            time.sleep(WATCH_EVERY_SECONDS)
        statuses = [follower.returncode for follower in self._followers]
        logger.error("a rank died", extra={"status": statuses})
        os._exit(OUT_OF_MEMORY if OUT_OF_MEMORY in statuses else LOST_A_RANK)


class LeadingPredictor:
    """A predictor whose every call the followers make too."""

    def __init__(self, predict: Predictor, ranks: Ranks) -> None:
        self._predict, self._ranks = predict, ranks

    @property
    def used(self) -> dict[str, str]:
        return self._predict.used | {"devices": str(self._ranks.world)}

    def __call__(self, sample: torch.Tensor, time: torch.Tensor, is_last: bool) -> torch.Tensor:
        self._ranks.say({"do": "step", "time": int(time), "is_last": is_last})
        return self._predict(self._ranks.pass_on(sample), time, is_last)


def announce_clip(
    ranks: Ranks, plan: RenderPlan, mode: str, given: Conditions, adapter: Path | None, kernel: str, memory: str
) -> None:
    """All a follower needs to predict the steps that come."""
    words: dict[str, Any] = {"do": "clip", "plan": plan.model_dump(), "mode": mode, "guidance": given.guidance}
    words |= {"kernel": kernel, "memory": memory}
    words |= {"adapter": str(adapter) if adapter else None, "dtype": str(given.embeds.dtype).removeprefix("torch.")}
    words |= {"embeds": list(given.embeds.shape), "image": None if given.image is None else list(given.image.shape)}
    ranks.say(words)
    ranks.pass_on(given.embeds)
    if given.image is not None:
        ranks.pass_on(given.image)


def lead_decode(vae: Any, latents: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    ranks.say({"do": "decode", "shape": list(latents.shape), "dtype": str(latents.dtype).removeprefix("torch.")})
    video = decode_shared(vae, ranks.pass_on(latents), ranks)
    if video is None:
        raise RuntimeError("only the leader gets the video")
    return video
