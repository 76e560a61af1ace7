"""What all jobs of one worker share."""

import asyncio
from dataclasses import dataclass, field

from gpu_worker.content import ContentCheck
from gpu_worker.engine.process import Child
from gpu_worker.metrics import WorkerMetrics
from gpu_worker.pace import Pace
from gpu_worker.prepare import HttpRewriter
from gpu_worker.scratch import Scratch
from video_jobs.results import ResultStore
from video_jobs.store import JobStore
from video_jobs.tracing import NoTraces, Traces


@dataclass
class Workshop:
    store: JobStore
    results: ResultStore
    engine: Child
    finisher: Child
    rewriter: HttpRewriter | None
    scratch: Scratch
    pace: Pace
    checkpoint_every_s: float
    adapter: str = ""
    """The one that the engine last merged into its weights."""

    content: ContentCheck = field(default_factory=ContentCheck)
    traces: Traces = field(default_factory=NoTraces)
    metrics: WorkerMetrics = field(default_factory=WorkerMetrics)
    rendering: asyncio.Lock = field(default_factory=asyncio.Lock)
    finishing: asyncio.Lock = field(default_factory=asyncio.Lock)
