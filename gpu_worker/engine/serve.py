"""A child's side of the pipe: one thread hears messages, so that a cancel is heard while the other works."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from gpu_worker.engine.protocol import Cancel, Done, Failed, Finish, Message, Render, read_messages, write_message
from video_jobs.errors import JobCancelled, JobError
from video_jobs.logs import about

Work = TypeVar("Work", Render, Finish)

logger = logging.getLogger(__name__)


class JobLoop(Generic[Work]):
    """Takes one job at a time until the pipe closes. `code_of` names what a foreign exception means."""

    def __init__(self, read_fd: int, write_fd: int, kind: type[Work], code_of: Callable[[Exception], str]) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._kind: type[Work] = kind
        self._code_of = code_of
        self._waiting: queue.Queue[Work | None] = queue.Queue()
        self._cancelled: set[str] = set()
        self._asked_for_checkpoint: set[str] = set()

    def run(self, perform: Callable[[Work], Done]) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        while (job := self._waiting.get()) is not None:
            about(job_id=job.job_id)
            self.tell(self._answer(job, perform))
            self._cancelled.discard(job.token)
            self._asked_for_checkpoint.discard(job.token)

    def tell(self, message: Message) -> None:
        write_message(self._write_fd, message)

    def raise_if_cancelled(self, job: Work) -> None:
        if job.token in self._cancelled:
            raise JobCancelled

    def is_checkpoint_asked(self, job: Work) -> bool:
        return job.token in self._asked_for_checkpoint

    def _listen(self) -> None:
        for message in read_messages(self._read_fd):
            if isinstance(message, Cancel):
                if message.keep_checkpoint:
                    self._asked_for_checkpoint.add(message.token)
                self._cancelled.add(message.token)
            elif isinstance(message, self._kind):
                self._waiting.put(message)
        self._waiting.put(None)

    def _answer(self, job: Work, perform: Callable[[Work], Done]) -> Done | Failed:
        try:
            return perform(job)
        except JobError as error:
            return Failed(job_id=job.job_id, token=job.token, code=error.code, detail=error.detail)
        except Exception as error:
            logger.exception("job failed in the child")
            return Failed(job_id=job.job_id, token=job.token, code=self._code_of(error), detail=repr(error)[:500])
