"""Clients as they are: they submit, lose answers, try again under the same request id, poll, cancel and note it all."""

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import httpx2

PATIENCE_SECONDS = 15.0
POLL_SECONDS = 1.2
# How often a caller does something special, of a thousand jobs.
CANCELLED, DOUBLED, OTHER_BODY, FINAL_ERROR, POISON, LONG = 40, 40, 20, 15, 3, 40


class Callers:
    def __init__(self, urls: list[str], key: str, folder: Path, seed: int, is_plain: bool = False) -> None:
        self._urls, self._random = urls, random.Random(seed)
        self._is_plain = is_plain
        self._history = (folder / "history.jsonl").open("a", buffering=1)
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}", "Accept-Language": "en"},
            timeout=PATIENCE_SECONDS,
            limits=httpx2.Limits(max_connections=400, max_keepalive_connections=100),
        )
        self._made = 0
        # Cancelling a job that has ended deletes it: from then on it reads as one that never was.
        self._deleted: set[str] = set()
        self.accepted: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        self.is_over = False

    async def close(self) -> None:
        await self._client.aclose()
        self._history.close()

    async def run(self, crowd: int, limit: int = 10**9) -> None:
        """So many callers, each with one job after another until it is over; then each sees its last job to the end."""
        await asyncio.gather(*(self._caller(limit) for _ in range(crowd)))

    async def _caller(self, limit: int) -> None:
        while not self.is_over and self._made < limit:
            self._made += 1
            await self.one_job(self._prompt(), f"request-{self._made:07d}")

    def _dice(self) -> int:
        # Plain callers want a video and nothing else.
        return 501 if self._is_plain else self._random.randrange(1000)

    def _prompt(self) -> str:
        dice = self._dice()
        if dice < FINAL_ERROR:
            return "fail:image_unreadable"
        if dice < FINAL_ERROR + POISON:
            return "die"
        return "long" if dice < FINAL_ERROR + POISON + LONG else "a cat"

    async def one_job(self, prompt: str, request_id: str, **wanted: object) -> str:
        """Submit until it is answered, then poll to the end; how it ended."""
        dice = self._dice()
        body = {"model": "cogvideox-2", "prompt": prompt, "size": "720x480", "request_id": request_id} | wanted
        copies = [self._submit(body)] + ([self._submit(body)] if dice < DOUBLED else [])
        task_id = (await asyncio.gather(*copies))[0]
        if DOUBLED <= dice < DOUBLED + OTHER_BODY:
            await self._call("conflict", "POST", "/videos/generations", json=body | {"prompt": "another"})
        if dice >= 1000 - CANCELLED:
            await asyncio.sleep(self._random.uniform(0, 2))
            self._deleted.add(task_id)
            await self._call("cancel", "DELETE", f"/async-result/{task_id}", task_id=task_id)
        return await self._poll(task_id, reads_twice=dice % 10 == 0)

    async def _submit(self, body: dict[str, Any]) -> str:
        pause_s = 0.05
        while True:
            reply = await self._call("submit", "POST", "/videos/generations", json=body)
            if reply and reply["status"] == 200:
                task_id = str(reply["body"]["id"])
                self.accepted[task_id] = body["prompt"]
                return task_id
            await asyncio.sleep(pause_s * self._random.uniform(0.5, 1.5))
            pause_s = min(2.0, 2 * pause_s)

    async def _poll(self, task_id: str, reads_twice: bool) -> str:
        while True:
            status = await self._read(task_id)
            if status in ("SUCCESS", "FAIL", "DELETED"):
                self.ended[task_id] = status
                if reads_twice:
                    await asyncio.sleep(self._random.uniform(0, 2))
                    await self._read(task_id)
                return status
            await asyncio.sleep(POLL_SECONDS * self._random.uniform(0.7, 1.3))

    async def _read(self, task_id: str) -> str:
        reply = await self._call("read", "GET", f"/async-result/{task_id}", task_id=task_id)
        if reply and reply["status"] == 400 and task_id in self._deleted:
            return "DELETED"
        return str(reply["body"].get("task_status", "")) if reply else ""

    async def _call(self, op: str, method: str, path: str, task_id: str = "", **how: Any) -> dict[str, Any] | None:
        """One request to a gateway by chance, written down; None when its fate is unknown."""
        url = self._random.choice(self._urls) + path
        line: dict[str, Any] = {"op": op, "invoked": time.time() * 1000, "task_id": task_id}
        if "json" in how:
            line |= {"request_id": how["json"]["request_id"], "prompt": how["json"]["prompt"]}
        try:
            reply = await self._client.request(method, url, **how)
            body = reply.json()
            line |= {"status": reply.status_code, "body": body, "retry_after": reply.headers.get("retry-after")}
        except (httpx2.HTTPError, ValueError) as exc:
            line |= {"unknown": type(exc).__name__}
        line["answered"] = time.time() * 1000
        self._history.write(json.dumps(line) + "\n")
        return line if "status" in line else None


def read_history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
