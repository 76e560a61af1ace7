"""JSON log lines: one per event, with secrets redacted by pattern."""

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter
from redis.exceptions import RedisError

DEPENDENCIES = ("redis", "store")
"""What a line names as its `dependency` when that is what failed."""

OURS = {"server", "gpu_worker", "video_jobs", "cogvideox_server"}
# Keys of ours, of Zhipu, of hubs and clouds, JWTs, bearer tokens, passwords in URLs and what signs links, wherever they
# turn up. Of what follows a word only that word stays.
SECRETS = re.compile(
    r"cvx-[0-9A-Za-z]{16}\.[0-9A-Za-z]+|\b[0-9a-f]{32}\.[0-9A-Za-z]{16,}|eyJ[\w-]+\.[\w-]+\.[\w-]*"
    r"|\bhf_[0-9A-Za-z]{20,}|\bsk-[\w-]{16,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|(?<=[Bb]earer )[^\s\"\\,;()]+|(?<=://)[^\s\"\\/@:]*:[^\s\"\\/@]+(?=@)"
    r"|(?<=[Ss]ignature=)[0-9A-Za-z%]+|(?<=Security-Token=)[^&\s\"]+"
)
_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_about: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)


def about(**ids: str) -> None:
    """Every later line of this task, and of what it starts, carries these ids."""
    _about.set(ids)


def also_about(**ids: str) -> None:
    """And these, which became known only now; lines of what was started before carry them too."""
    if (known := _about.get()) is None:
        about(**ids)
    else:
        known.update(ids)


def redact(text: str) -> str:
    return SECRETS.sub("[secret]", text)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": record.levelname.lower(), "event": record.getMessage(), "logger": record.name}
        line |= _about.get() or {}
        line |= {name: value for name, value in vars(record).items() if name not in _PLAIN}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, ensure_ascii=False, default=str))


def dependency_of(exc: Exception) -> str:
    """Which of the two it was that failed, where both are asked."""
    return "redis" if isinstance(exc, RedisError) else "store"


class CountedWarnings(logging.Handler):
    """Counts our own warnings and errors by event: what a log line tells once, an alert can follow."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(logging.WARNING)
        self._count = Counter("cogvideox_warnings", "Warnings and errors by event.", ["event"], registry=registry)
        self._failed = Counter(
            "cogvideox_dependency_errors", "Calls that Redis or the store failed.", ["dependency"], registry=registry
        )
        for dependency in DEPENDENCIES:
            self._failed.labels(dependency)

    def emit(self, record: logging.LogRecord) -> None:
        # Events are constants of our code; others' words would make label values without end.
        if record.name.partition(".")[0] in OURS and isinstance(record.msg, str):
            self._count.labels(record.msg).inc()
            if dependency := getattr(record, "dependency", None):
                self._failed.labels(dependency).inc()


def set_up_logs(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("arq").setLevel(logging.WARNING)
