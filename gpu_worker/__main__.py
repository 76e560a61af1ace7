"""`python -P -m gpu_worker`: the worker's parent process. It holds leases and never touches the device."""

import asyncio
import logging
import os
import signal
import sys

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gpu_worker.content import ContentCheck
from gpu_worker.engine.process import Child
from gpu_worker.health import WorkerHealth
from gpu_worker.pace import Pace
from gpu_worker.prepare import HttpRewriter
from gpu_worker.scratch import Scratch
from gpu_worker.settings import WorkerSettings
from gpu_worker.worker import VideoWorker
from gpu_worker.workshop import Workshop
from video_jobs.catalogue import load_catalogue
from video_jobs.fragment import read_settings
from video_jobs.logs import set_up_logs
from video_jobs.policy.moderation import open_moderator
from video_jobs.policy.words import WordLists
from video_jobs.queue import open_redis
from video_jobs.results import open_results
from video_jobs.store import JobStore
from video_jobs.tracing import open_traces

HAND_BACK_SECONDS = 5.0

logger = logging.getLogger(__name__)


def engine_command(settings: WorkerSettings) -> list[str]:
    command = [sys.executable, "-P", "-m", "gpu_worker.engine", "--model", settings.model]
    command += ["--models", str(settings.state / "models"), "--device", settings.device]
    command += ["--checkpoint", settings.checkpoint, "--log-level", settings.log_level]
    command += ["--catalogue", str(settings.catalogue)] if settings.catalogue else []
    command += ["--text-encoder", settings.text_encoder]
    command += ["--memory", settings.memory, "--attention", settings.attention, "--compile", settings.compile]
    command += ["--compile-cache", str(settings.state / "compiled"), "--ranks", str(settings.gpus_per_job)]
    command += ["--accept-unknown-prompts"] if settings.accept_unknown_prompts else []
    local = settings.rewriter_local_model
    return [*command, "--rewriter", str(local)] if local else command


def finisher_command(settings: WorkerSettings) -> list[str]:
    return [sys.executable, "-P", "-m", "gpu_worker.finish", "--log-level", settings.log_level]


async def work(settings: WorkerSettings, engine: list[str], finisher: list[str]) -> None:
    """Run until SIGTERM or SIGINT; a second signal, or the end of the grace, ends it at once."""
    redis = await _redis(settings)
    words = WordLists(settings.policy_words)
    shop = Workshop(
        store=JobStore(redis, lease_s=settings.lease_seconds, retry_s=settings.retry_seconds),
        results=open_results(settings),
        engine=Child("engine", engine),
        finisher=Child("finisher", finisher),
        rewriter=HttpRewriter(settings) if settings.rewriter_url else None,
        scratch=Scratch(settings.scratch_folder, settings.scratch_min_free_mb << 20),
        pace=Pace(load_catalogue(settings.catalogue), settings.hang_factor, settings.hang_floor_seconds),
        checkpoint_every_s=settings.checkpoint_seconds,
        content=ContentCheck(words, open_moderator(settings)),
    )
    shop.traces = open_traces(settings.tracing, "cogvideox-worker")
    worker = VideoWorker(shop, redis, [settings.checkpoint])
    _stop_on_signals(worker, settings.grace_seconds)
    health = WorkerHealth(worker)
    logging.getLogger().addHandler(shop.metrics.warnings)
    listener = asyncio.create_task(health.serve(settings.worker_port)) if settings.worker_port else None
    refreshing = asyncio.create_task(words.keep_fresh())
    await worker.main()
    refreshing.cancel()
    await shop.content.close()
    if listener:
        listener.cancel()
    shop.scratch.close()
    await asyncio.to_thread(shop.traces.close)
    await redis.aclose()


async def _redis(settings: WorkerSettings) -> Redis:
    while True:
        try:
            redis: Redis = await open_redis(settings.redis_url.get_secret_value())
            return redis
        except (RedisError, OSError) as exc:
            logger.warning("waiting for redis", extra={"error": type(exc).__name__})
            await asyncio.sleep(1)


def _stop_on_signals(worker: VideoWorker, grace_s: float) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if worker.is_stopping:
            os._exit(1)
        worker.drain(max(grace_s - HAND_BACK_SECONDS, grace_s / 2))
        loop.call_later(grace_s, os._exit, 1)

    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop)


def main() -> None:
    settings = read_settings(WorkerSettings)
    set_up_logs(settings.log_level)
    asyncio.run(work(settings, engine_command(settings), finisher_command(settings)))


if __name__ == "__main__":
    main()
