"""A child process of the worker: started, watched, restarted. Its crash or hang ends one attempt, no more."""

import asyncio
import contextlib
import ctypes
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence

from gpu_worker.engine.protocol import (
    Cancel,
    Done,
    Failed,
    Finish,
    Message,
    Ready,
    Render,
    decode,
    encode,
    length_of,
)
from video_jobs.errors import EngineDied, EngineHung, JobCancelled, ModelUnavailable, error_for

START_LIMIT_SECONDS = 1800.0
CANCEL_GRACE_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 30.0
PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


def die_with_parent(pipe: int) -> None:
    """For a child's main thread: the kernel ends it when its parent dies, however the parent dies."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have died before. Only the pipe tells: a parent of pid 1 may be a foster parent, or a container's worker.
    watch = select.poll()
    watch.register(pipe, 0)
    if watch.poll(0):
        sys.exit("the parent is gone")


class Child:
    """One child and its pipe. `run` gives it one job and waits for the end."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.ready: Ready | None = None
        self._command = list(command)
        self._process: asyncio.subprocess.Process | None = None
        self._reader = asyncio.StreamReader()
        self._transport: asyncio.ReadTransport | None = None
        self._write_fd = -1
        self._failures = 0
        self._cancelled: str | None = None

    async def start(self) -> Ready:
        """Start the child unless it runs, and wait until it is ready; each failure in a row waits longer."""
        if self.ready is not None and self.is_ready:
            return self.ready
        await self.kill()
        if self._failures:
            await asyncio.sleep(min(MAX_BACKOFF_SECONDS, 0.2 * 2**self._failures))
        self._failures += 1
        await self._spawn()
        try:
            message = await self._read(START_LIMIT_SECONDS)
        except TimeoutError as exc:
            await self.kill()
            raise ModelUnavailable(f"{self.name} took too long to start") from exc
        if not isinstance(message, Ready):
            await self.kill()
            raise EngineDied(f"{self.name} began with {message.kind}")
        self.ready, self._failures = message, 0
        logger.info("child ready", extra={"child": self.name, "pid": self.pid})
        return message

    @property
    def is_ready(self) -> bool:
        return self.ready is not None and self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def run(self, job: Render | Finish, limit_s: float, on_message: Callable[[Message], None]) -> Done:
        """Give the child this job; JobError if it fails, dies, or is silent for longer than `limit_s`."""
        try:
            await self.start()
            if self._cancelled == job.token:
                raise JobCancelled
            self._send(job)
            return await self._hear(job, limit_s, on_message)
        finally:
            # A cancel that was obeyed, or came too late, must not end an idle child when its grace is over.
            self._cancelled = None

    async def _hear(self, job: Render | Finish, limit_s: float, on_message: Callable[[Message], None]) -> Done:
        while True:
            message = await self._read_or_kill(job, limit_s)
            if getattr(message, "token", None) != job.token:
                continue
            if isinstance(message, Done):
                return message
            if isinstance(message, Failed):
                raise error_for(message.code, message.detail)
            on_message(message)

    async def cancel(self, job_id: str, token: str, keep_checkpoint: bool = False) -> None:
        """Ask for the job's end at the next step; a child that does not answer is killed."""
        self._cancelled = token
        self._send(Cancel(job_id=job_id, token=token, keep_checkpoint=keep_checkpoint))
        process = self._process
        await asyncio.sleep(CANCEL_GRACE_SECONDS)
        if self._cancelled == token and process is self._process:
            await self.kill()

    async def kill(self) -> None:
        self.ready = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            logger.info("child ended", extra={"child": self.name, "status": self._process.returncode})
            self._process = None
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        if self._write_fd >= 0:
            os.close(self._write_fd)
            self._write_fd = -1

    async def _spawn(self) -> None:
        child_reads, self._write_fd = os.pipe()
        parent_reads, child_writes = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                *("--fds", str(child_reads), str(child_writes)),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(child_reads, child_writes),
            )
        finally:
            os.close(child_reads)
            os.close(child_writes)
        self._reader = asyncio.StreamReader()
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader), os.fdopen(parent_reads, "rb", buffering=0)
        )

    def _send(self, message: Message) -> None:
        # Messages are small and the child reads on a thread of its own: the pipe never fills.
        with contextlib.suppress(BrokenPipeError, OSError):
            os.write(self._write_fd, encode(message))

    async def _read(self, limit_s: float) -> Message:
        async with asyncio.timeout(limit_s):
            try:
                header = await self._reader.readexactly(4)
                return decode(await self._reader.readexactly(length_of(header)))
            except (asyncio.IncompleteReadError, ValueError) as exc:
                await self.kill()
                raise EngineDied(f"{self.name} ended") from exc

    async def _read_or_kill(self, job: Render | Finish, limit_s: float) -> Message:
        try:
            return await self._read(limit_s)
        except TimeoutError as exc:
            await self.kill()
            raise EngineHung(f"{self.name} was silent for {limit_s:.0f} s") from exc
        except EngineDied:
            if self._cancelled == job.token:
                raise JobCancelled from None
            raise
