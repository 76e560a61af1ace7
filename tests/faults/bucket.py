"""An S3 server that can be told to fail: moto, in a process of its own.

`POST /_faults {"share", "status", "s"}`; `POST /_dump {"path"}` writes all objects into one zip file.
"""

import json
import random
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, run_simple

ERRORS = {500: ("500 Internal Server Error", "InternalError"), 503: ("503 Slow Down", "SlowDown")}


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """A server that says nothing."""


class Bucket:
    """Answers as S3 would, or with an error for a share of the requests as long as it was told to."""

    def __init__(self) -> None:
        self._real = DomainDispatcherApplication(create_backend_app)
        self._share, self._status, self._until = 0.0, 500, 0.0

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] in ("/_faults", "/_dump"):
            told = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            self._fail(**told) if environ["PATH_INFO"] == "/_faults" else dump(**told)
            start("204 No Content", [])
            return []
        if time.monotonic() < self._until and random.random() < self._share:
            line, code = ERRORS[self._status]
            start(line, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>told to fail</Message></Error>".encode()]
        return self._real(environ, start)

    def _fail(self, share: float, status: int, s: float) -> None:
        self._share, self._status, self._until = share, status, time.monotonic() + s


def dump(path: str) -> None:
    """All objects at once: asking for each would take longer than the storm that made them."""
    with zipfile.ZipFile(path, "w") as objects:
        for bucket in s3_backends["123456789012"]["aws"].buckets.values():
            for name, key in bucket.keys.items():
                objects.writestr(name, key.value)


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), Bucket(), threaded=True, request_handler=Quiet)
