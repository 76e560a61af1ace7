"""The yardstick: a bare ASGI app that does the gateway's Redis calls and nothing else. `bare.py REDIS_URL PORT`."""

import json
import secrets
import sys

import uvicorn

from video_jobs.job import Job
from video_jobs.queue import lazy_redis
from video_jobs.store import JobStore


def app_on(store: JobStore, template: Job):
    async def app(scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "POST":
            while (await receive()).get("more_body"):
                pass
            job_id = str(secrets.randbelow(10**25))
            await store.admit("acme", job_id, "hash", job_id)
            await store.accept(template.model_copy(update={"id": job_id, "request_id": job_id}))
            body = json.dumps({"id": job_id}).encode()
        else:
            await store.get(scope["path"].rpartition("/")[2])
            body = b"{}"
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
        )
        await send({"type": "http.response.body", "body": body})

    return app


if __name__ == "__main__":
    given = Job.model_validate_json(sys.stdin.read())
    store = JobStore(lazy_redis(sys.argv[1]))
    uvicorn.run(app_on(store, given), port=int(sys.argv[2]), http="httptools", loop="uvloop", log_level="error")
