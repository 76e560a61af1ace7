"""A child process of the worker: started, watched, restarted. Its crash or hang ends one attempt, no more."""

import asyncio
import contextlib
import ctypes
import logging
import os
import select
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence

from gpu_worker.engine.protocol import (
    OUT_OF_MEMORY,
    Cancel,
    Done,
    Failed,
    Finish,
    Message,
    Progress,
    Ready,
    Render,
    decode,
    encode,
    length_of,
)
from video_jobs.errors import (
    ChildNotStarted,
    DeviceFault,
    EngineDied,
    EngineHung,
    JobCancelled,
    OutOfGpuMemory,
    error_for,
)

START_LIMIT_SECONDS = 1800.0
EXIT_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 30.0
PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


def die_with_parent(pipe: int) -> None:
    """For a child's main thread: the kernel ends it when its parent dies, however the parent dies."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for sign in (signal.SIGTERM, signal.SIGINT):
        # A terminal or systemd tells the whole family; the parent alone knows what is to be saved first.
        signal.signal(sign, lambda *_: None)
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
        self._process: Process | None = None
        self._reader = asyncio.StreamReader()
        self._transport: asyncio.ReadTransport | None = None
        self._write_fd = -1
        self.start_s = 0.0
        """How long its last start took."""

        self._failures = self._steps_down = self._begun_with = 0
        self._cancelled: str | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> Ready:
        """Start the child unless it runs, and wait until it is ready; each failure in a row waits longer."""
        async with self._starting:
            if self.ready is None or not self.is_ready:
                await self.kill()
                if self._failures:
                    await asyncio.sleep(min(MAX_BACKOFF_SECONDS, 0.2 * 2**self._failures))
                self._failures += 1
                began = time.monotonic()
                self.ready = await self._begin()
                self._failures, self.start_s = 0, time.monotonic() - began
                logger.info("child ready", extra={"child": self.name, "pid": self.pid})
            return self.ready

    async def _begin(self) -> Ready:
        await self._spawn()
        try:
            message = await self._read(self._process, self._reader, START_LIMIT_SECONDS)
        except TimeoutError as exc:
            await self.kill()
            raise ChildNotStarted(f"{self.name} took too long to start") from exc
        except (EngineDied, OutOfGpuMemory) as exc:
            raise ChildNotStarted(exc.detail) from exc
        if not isinstance(message, Ready):
            await self.kill()
            raise ChildNotStarted(f"{self.name} began with {message.kind}")
        return message

    @property
    def is_ready(self) -> bool:
        return self.ready is not None and self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def run(
        self, job: Render | Finish, silence_s: Callable[[], float], on_message: Callable[[Message], None]
    ) -> Done:
        """Give the child this job; JobError if it fails, dies, or tells nothing new for as long as `silence_s` says."""
        try:
            await self.start()
            if self._cancelled == job.token:
                raise JobCancelled
            self._send(job)
            return await self._hear(job, silence_s, on_message)
        finally:
            # A cancel that was obeyed, or came too late, must not end an idle child when its grace is over.
            self._cancelled = None

    async def cancel(self, job_id: str, token: str, grace_s: float, keep_checkpoint: bool = False) -> None:
        """Ask for the job's end at the next step; a child that has not answered when the grace is over is killed."""
        self._cancelled = token
        self._send(Cancel(job_id=job_id, token=token, keep_checkpoint=keep_checkpoint))
        # One that still starts is spared: it has not been given the job.
        process = self._process if self.is_ready else None
        await asyncio.sleep(grace_s)
        if self._cancelled == token and process is not None and process is self._process:
            await self.kill()

    async def kill(self) -> str:
        """End the child if it runs; how it ended."""
        self.ready = None
        # Taken before the first wait: two that kill at once must not meet a child started in between.
        process, self._process = self._process, None
        transport, self._transport = self._transport, None
        descriptor, self._write_fd = self._write_fd, -1
        if transport is not None:
            transport.close()
        if descriptor >= 0:
            os.close(descriptor)
        if process is None:
            return "ended"
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        how = _told(await process.wait())
        logger.info("child ended", extra={"child": self.name, "how": how})
        return how

    async def _spawn(self) -> None:
        self._begun_with = self._steps_down
        child_reads, self._write_fd = os.pipe()
        parent_reads, child_writes = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                *("--fds", str(child_reads), str(child_writes), *["--less-memory"] * self._steps_down),
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

    async def _hear(
        self, job: Render | Finish, silence_s: Callable[[], float], on_message: Callable[[Message], None]
    ) -> Done:
        clock = asyncio.get_running_loop().time
        deadline, newest = clock() + silence_s(), None
        # If it dies, whoever needs it next may start another before we know: that one is not ours to end.
        process, reader = self._process, self._reader
        while True:
            message = await self._read_or_end(job, process, reader, deadline - clock())
            if getattr(message, "token", None) != job.token:
                continue
            if isinstance(message, Done):
                return message
            if isinstance(message, Failed):
                await self._give_up(message, process)
            on_message(message)
            # A child that tells the same again and again gets nowhere.
            if message != newest:
                deadline = clock() + silence_s()
            newest = message if isinstance(message, Progress) else newest

    async def _give_up(self, failed: Failed, process: Process | None) -> None:
        error = error_for(failed.code, failed.detail)
        if isinstance(error, DeviceFault):
            # Nothing more will run in a process whose device has failed.
            await self._end(process)
        raise error

    async def _read(self, process: Process | None, reader: asyncio.StreamReader, limit_s: float) -> Message:
        async with asyncio.timeout(limit_s):
            try:
                header = await reader.readexactly(4)
                return decode(await reader.readexactly(length_of(header)))
            except (asyncio.IncompleteReadError, ValueError) as exc:
                told = f"{self.name} {await self._last_words(process)}"
                if process is not None and process.returncode == OUT_OF_MEMORY:
                    self._steps_down = self._begun_with + 1
                    raise OutOfGpuMemory(told) from exc
                raise EngineDied(told) from exc

    async def _last_words(self, process: Process | None) -> str:
        # A child that is ending by itself tells more than one that we end.
        if process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), EXIT_SECONDS)
        return await self._end(process)

    async def _end(self, process: Process | None) -> str:
        """How it ended: by itself, or by us if it is still this child's."""
        if process is self._process:
            return await self.kill()
        return "ended" if process is None or process.returncode is None else _told(process.returncode)

    async def _read_or_end(
        self, job: Render | Finish, process: Process | None, reader: asyncio.StreamReader, limit_s: float
    ) -> Message:
        try:
            return await self._read(process, reader, limit_s)
        except TimeoutError as exc:
            await self._end(process)
            raise EngineHung(f"{self.name} told nothing new for too long") from exc
        except (EngineDied, OutOfGpuMemory):
            if self._cancelled == job.token:
                raise JobCancelled from None
            raise


def _told(status: int) -> str:
    return f"ended by signal {-status} ({signal.strsignal(-status)})" if status < 0 else f"ended with status {status}"
