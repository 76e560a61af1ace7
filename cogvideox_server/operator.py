"""Who works on this machine, and the audit's record of what they do to tenants and keys."""

import getpass
import os
import socket

from redis.asyncio import Redis


def operator() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        name = f"uid-{os.getuid()}"
    return f"{name}@{socket.gethostname()}"


async def note(redis: Redis, call: str, about: str) -> None:
    """On record before anything is done: what cannot be audited is not done."""
    from video_jobs.audit.ledger import Ledger
    from video_jobs.audit.log import AuditLog

    await AuditLog(Ledger(redis)).admin(operator(), call, about)
