"""Submitting a job: replay, validate, admit, image, accept or release. Bad input costs nothing and leaves nothing."""

import asyncio
import hashlib
import json
import secrets
import time
import unicodedata
from typing import Any

from server.images import ImageIntake, one_image
from server.offer import offers
from server.refusal import Refusal
from server.settings import GatewaySettings
from server.tokens import Caller
from server.zhipu.fields import Wanted, check, read_body, refuse_unavailable
from video_jobs.catalogue import Catalogue
from video_jobs.cost import device_seconds
from video_jobs.job import ImageRef, Job
from video_jobs.store import JobStore, Verdict
from video_jobs.workers import WorkerRegistry

ALPHABET_SECONDS, MAX_UNKNOWN_SHARE = 30.0, 0.5
PENDING_PAUSE_SECONDS, PENDING_LIMIT_SECONDS = 0.1, 90.0


class JobIntake:
    def __init__(self, store: JobStore, catalogue: Catalogue, images: ImageIntake, settings: GatewaySettings) -> None:
        self._store, self._catalogue, self._images, self._settings = store, catalogue, images, settings
        self.offers = offers(catalogue, settings)
        self._registry = WorkerRegistry(store.redis)
        self._alphabet: tuple[float, str | None] = (0.0, None)

    async def submit(self, values: dict[str, Any], caller: Caller) -> Job:
        """The accepted job: a new one, or the one this request id already made."""
        body = read_body(values)
        job_id, body_hash = new_id(), hash_body(values)
        request_id = body.request_id or new_id()
        if body.request_id and (known := await self._replay(caller, request_id, body_hash)):
            return known
        wanted = check(body, self.offers, self._settings.max_prompt_characters)
        if body.has_image:
            one_image(body.image_url)
        if self._settings.refuse_unavailable:
            refuse_unavailable(body)
        await self._check_letters(body.prompt or "")
        if known := await self._admit(caller, request_id, body_hash, job_id):
            return known
        try:
            image = await self._images.take(body.image_url, caller.tenant) if body.has_image else None
            job = self._job(wanted, caller, job_id, request_id, body_hash, image)
        except BaseException:
            # Shielded: a gateway that is shut down here must not leave the request id to wait for its end.
            await asyncio.shield(self._store.release(caller.tenant, request_id, job_id))
            raise
        winner = await self._store.accept(job)
        if not winner:
            raise Refusal("1231", request_id=request_id)
        return job if winner == job_id else await self._job_of(winner)

    async def _replay(self, caller: Caller, request_id: str, body_hash: str) -> Job | None:
        """What this request id made before: answered even if the same body would be refused by now."""
        known = await self._store.find(caller.tenant, request_id)
        if known is None:
            return None
        job_id, known_hash = known
        if known_hash != body_hash:
            raise Refusal("1231", request_id=request_id)
        return await self._job_of(job_id)

    async def _admit(self, caller: Caller, request_id: str, body_hash: str, job_id: str) -> Job | None:
        """None when the request id is ours to use; while another copy is being admitted, wait for its end."""
        deadline = time.monotonic() + PENDING_LIMIT_SECONDS
        while time.monotonic() < deadline:
            admission = await self._store.admit(caller.tenant, request_id, body_hash, job_id)
            if admission.verdict is Verdict.NEW:
                return None
            if admission.verdict is Verdict.CONFLICT:
                raise Refusal("1231", request_id=request_id)
            if admission.verdict is Verdict.REPLAY:
                return await self._job_of(admission.job_id)
            await asyncio.sleep(PENDING_PAUSE_SECONDS)
        raise Refusal.unavailable()

    async def _job_of(self, job_id: str) -> Job:
        record = await self._store.get(job_id)
        if record is None:
            raise Refusal("500")
        return record.job

    async def _check_letters(self, prompt: str) -> None:
        """A prompt that is noise to the model's tokenizer must not cost a GPU second."""
        settings = self._settings
        if settings.has_rewriter or settings.accept_unknown_prompts:
            return
        # As the tokenizer reads it: full-width letters are letters.
        letters = [letter for letter in unicodedata.normalize("NFKC", prompt) if not letter.isspace()]
        known = await self._letters_known()
        if not letters or known is None or known == "*":
            return
        if sum(letter not in known for letter in letters) > MAX_UNKNOWN_SHARE * len(letters):
            raise Refusal("1214", "prompt", "unknown_letters")

    async def _letters_known(self) -> str | None:
        read_until, known = self._alphabet
        if known is None or time.monotonic() > read_until:
            known = await self._registry.alphabet(self._settings.checkpoint)
            self._alphabet = (time.monotonic() + ALPHABET_SECONDS, known)
        return known

    def _job(
        self, wanted: Wanted, caller: Caller, job_id: str, request_id: str, body_hash: str, image: ImageRef | None
    ) -> Job:
        route = self._settings.checkpoint
        spec = wanted.spec(image, secrets.randbits(32))
        plan = self._catalogue.plan(spec, route)
        return Job(
            id=job_id,
            request_id=request_id,
            body_hash=body_hash,
            tenant=caller.tenant,
            key_id=caller.key_id,
            user_id=wanted.body.user_id,
            spec=spec,
            plan=plan,
            route=route,
            cost_s=device_seconds(self._catalogue.checkpoints[route], plan),
            start_within_s=self._settings.start_within_s,
            run_limit_s=self._settings.run_limit_s,
        )


def new_id() -> str:
    """25 random digits, the first not zero: text that any client's URL holds as it is."""
    return str(secrets.randbelow(9 * 10**24) + 10**24)


def hash_body(values: dict[str, Any]) -> str:
    """Of the request as sent, nulls dropped, whatever the order of its names."""
    kept = {name: value for name, value in values.items() if value is not None}
    try:
        text = json.dumps(kept, sort_keys=True)
    except RecursionError as exc:
        # What was just deep enough to be read on a thread of its own is too deep here.
        raise Refusal("1210", detail="json") from exc
    return hashlib.sha256(text.encode()).hexdigest()
