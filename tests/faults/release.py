"""A stand-in of the release after this one: its gateways write jobs of version 2, its workers know 1 and 2."""

import os

from server.intake import JobIntake
from video_jobs import store

NEXT_RELEASE = "FAULTS_NEXT_RELEASE"


def become_next_release() -> None:
    if not os.environ.get(NEXT_RELEASE):
        return
    original = JobIntake._job

    def newer(self: JobIntake, *args: object) -> object:
        return original(self, *args).model_copy(update={"version": 2})  # type: ignore[arg-type]

    JobIntake._job = newer  # type: ignore[assignment]
    store.KNOWN_VERSIONS = (1, 2)  # type: ignore[assignment]
