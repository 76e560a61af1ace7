"""Submitting a job: replay, validate, admit, image, accept or release. Bad input costs nothing and leaves nothing."""

import asyncio
import hashlib
import json
import secrets
import time
import unicodedata
from typing import Any, NamedTuple

from server.auditor import origin_of
from server.fleet import Fleet
from server.images import ImageIntake, one_image
from server.limits import refusal_of
from server.offer import offers
from server.policing import ContentPolicy
from server.refusal import Refusal
from server.settings import GatewaySettings
from server.tokens import Caller
from server.zhipu.fields import Wanted, check, read_body, refuse_unavailable
from video_jobs.catalogue import Catalogue
from video_jobs.cost import device_seconds, stage_seconds
from video_jobs.job import Job, JobRecord, VideoSpec
from video_jobs.limits import Ask, Rate, ServiceClass, Tenant
from video_jobs.logs import also_about
from video_jobs.store import JobStore
from video_jobs.tenants import TenantBook
from video_jobs.verdicts import Admission, AuditFull, Verdict
from video_jobs.workers import WorkerRegistry

ALPHABET_SECONDS, MAX_UNKNOWN_SHARE = 30.0, 0.5
TELLING_PROGRESS = 0.05
PENDING_PAUSE_SECONDS, PENDING_LIMIT_SECONDS = 0.1, 90.0


class Task(NamedTuple):
    """What a request made, as its caller knows it: all of this outlives the job's own record."""

    id: str
    request_id: str
    model: str


class Submission(NamedTuple):
    """The task; and when it is a new one, its job, its tenant's plan and what is left of the rate."""

    task: Task
    job: Job | None = None
    rate: Rate | None = None
    warning: str = ""
    plan: str = ""


class JobIntake:
    def __init__(
        self,
        store: JobStore,
        catalogue: Catalogue,
        images: ImageIntake,
        settings: GatewaySettings,
        policy: ContentPolicy,
    ) -> None:
        self._policy = policy
        self._store, self._catalogue, self._images, self._settings = store, catalogue, images, settings
        self._registry, self._book = WorkerRegistry(store.redis), TenantBook(store)
        self.fleet = Fleet(self._registry)
        self.offers = offers(catalogue, settings)
        self.routes = tuple(catalogue.checkpoints)
        self._alphabet: tuple[float, str | None] = (0.0, None)

    async def submit(self, values: dict[str, Any], caller: Caller, trace: str = "") -> Submission:
        """The accepted task: a new one, or the one this request id already made."""
        body = read_body(values, self._settings.strict)
        job_id, body_hash = new_id(), hash_body(values)
        request_id = body.request_id or new_id()
        if body.request_id and (known := await self._replay(caller, request_id, body_hash)):
            # The same body named the same model.
            return Submission(Task(known, request_id, body.model or ""))
        also_about(job_id=job_id, request_id=request_id)
        wanted = check(body, self.offers, self._settings.max_prompt_characters)
        if body.has_image:
            one_image(body.image_url)
        if self._settings.refuse_unavailable:
            refuse_unavailable(body)
        await self._check_letters(body.prompt or "")
        passed = await self._policy.admit(caller.tenant, body.user_id, body.prompt or "", body.sensitive_word_check)
        # Its cost is predicted before its image is known: the size may follow from the image.
        terms = await self._book.lately(caller.tenant)
        job = self._job(wanted, caller, job_id, request_id, body_hash, _class(wanted, caller, terms))
        admission = await self._admit(job, body.has_image)
        if admission.verdict is Verdict.REPLAY:
            return Submission(Task(admission.job_id, request_id, job.spec.model))
        job = await self._complete(job.model_copy(update={"policy": passed.policy, "trace": trace}), wanted)
        task = Task(await self._accept(job, caller), request_id, job.spec.model)
        if task.id != job.id:
            return Submission(task)
        return Submission(task, job, admission.rate, passed.warning, terms.plan)

    async def _complete(self, job: Job, wanted: Wanted) -> Job:
        """What takes others to answer: moderation, and the image. A refusal gives the reservation back."""
        try:
            job = await self._policy.moderate_prompt(job)
            if wanted.body.has_image:
                image = await self._images.take(wanted.body.image_url, job.tenant)
                job = self._with(job, wanted.spec(image, job.spec.seed))
                job = await self._policy.moderate_image(job, image)
            return job
        except BaseException:
            # Shielded: a gateway that is shut down here must not leave the request id to wait for its end.
            await asyncio.shield(self._store.release(job.tenant, job.request_id, job.id))
            raise

    async def _accept(self, job: Job, caller: Caller) -> str:
        """Its id, or the id of the copy that overtook it."""
        try:
            winner = await self._store.accept(job, origin_of(caller))
        except AuditFull as exc:
            await self._store.release(job.tenant, job.request_id, job.id)
            raise Refusal.unavailable() from exc
        if not winner:
            raise Refusal("1231", request_id=job.request_id)
        return winner

    async def _replay(self, caller: Caller, request_id: str, body_hash: str) -> str | None:
        """The id of what this request id made before: answered even if the same body would be refused by now."""
        known = await self._store.find(caller.tenant, request_id)
        if known is None:
            return None
        job_id, known_hash = known
        if known_hash != body_hash:
            raise Refusal("1231", request_id=request_id)
        return job_id

    async def _admit(self, job: Job, has_image: bool) -> Admission:
        """New or a replay; while another copy is being admitted, wait for its end."""
        ask = Ask(
            user_id=job.user_id,
            cost_s=job.cost_s,
            kind=job.plan.kind,
            route=job.route,
            has_image=has_image,
            workers=await self.fleet.workers(job.route),
            max_wait_s=self._settings.max_wait_seconds,
        )
        deadline = time.monotonic() + PENDING_LIMIT_SECONDS
        while time.monotonic() < deadline:
            admission = await self._store.admit(job.tenant, job.request_id, job.body_hash, job.id, ask)
            if admission.limit:
                raise refusal_of(admission.limit)
            if admission.verdict is Verdict.CONFLICT:
                raise Refusal("1231", request_id=job.request_id)
            if admission.verdict in (Verdict.NEW, Verdict.REPLAY):
                return admission
            await asyncio.sleep(PENDING_PAUSE_SECONDS)
        raise Refusal.unavailable()

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
        self, wanted: Wanted, caller: Caller, job_id: str, request_id: str, body_hash: str, priority: ServiceClass
    ) -> Job:
        route = self._settings.checkpoint
        spec = wanted.spec(None, secrets.randbits(32))
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
            priority=priority,
        )

    def _with(self, job: Job, spec: VideoSpec) -> Job:
        plan = self._catalogue.plan(spec, job.route)
        cost_s = device_seconds(self._catalogue.checkpoints[job.route], plan)
        return job.model_copy(update={"spec": spec, "plan": plan, "cost_s": cost_s})

    def seconds_left(self, record: JobRecord) -> float:
        """Of a running job: as it went so far once that tells, as predicted until then."""
        checkpoint = self._catalogue.checkpoints.get(record.job.route)
        predicted = sum(stage_seconds(checkpoint, record.job.plan).values()) if checkpoint else record.job.cost_s
        # A later attempt goes on from where another one stood: its time tells nothing about the whole.
        if record.progress >= TELLING_PROGRESS and len(record.attempts) == 1:
            predicted = max(0.0, time.time() - record.attempts[0].started_ms / 1000) / record.progress
        return predicted * (1 - record.progress)


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


def _class(wanted: Wanted, caller: Caller, terms: Tenant) -> ServiceClass:
    """The plan's class; a request may only lower it."""
    if caller.terms.models and wanted.body.model not in caller.terms.models:
        raise Refusal("1220", detail="key_model")
    plans = terms.service_class or "standard"
    return max(ServiceClass[plans.upper()], wanted.service_class or ServiceClass.INTERACTIVE)
