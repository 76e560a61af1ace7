"""Reads what the callers saw, what Redis and the bucket hold and what the audit says, and finds every contradiction.

I1 accepted jobs exist and end · I2 they end once and stay so · I3 at most one result, whole, its own · I4 the audit is
dense and complete · I5 trouble is charged to its job alone · I6 one request id, one task · I7 nothing is left behind ·
I8 limits hold · I9 gateways answer as the contract says
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import accumulate, zip_longest

from gpu_worker.worker import MAX_JOBS
from tests.faults.clip import owner, whole_work
from tests.faults.evidence import Evidence
from video_jobs.job import JobRecord, JobState

FINAL = {"succeeded", "failed", "cancelled"}
# What may follow what in a job's audit; anything else is a transition that the machine does not have.
FOLLOWS = {
    "": {"accepted"},
    "accepted": {"claimed", "cancelled"},
    "claimed": {"requeued", "succeeded", "failed", "cancelled"},
    "requeued": {"claimed", "succeeded", "failed", "cancelled"},
}
LASTING_CHANGES = {"accepted", "claimed", "requeued", *FINAL}


def violations(evidence: Evidence) -> list[str]:
    """Every contradiction, as a line that names the invariant and the job."""
    checks = (
        *(accepted_jobs_end, ends_once, one_result, audit_is_dense, changes_are_lawful, charged_alone),
        *(one_task_per_request, nothing_left, no_worker_overfull, answers_as_promised),
    )
    return [line for check in checks for line in check(evidence)]


def accepted_jobs_end(evidence: Evidence) -> Iterator[str]:
    for line in evidence.history:
        if line["op"] == "submit" and line.get("status") == 200 and line["body"]["id"] not in evidence.records:
            yield f"I1 lost: {line['body']['id']} was accepted and is gone"
    for job_id, record in evidence.records.items():
        if not record.state.is_final:
            yield f"I1 stuck: {job_id} is {record.state}"


def ends_once(evidence: Evidence) -> Iterator[str]:
    ends = Counter(line["task_id"] for line in evidence.audit if line["event"] in FINAL)
    for job_id, record in evidence.records.items():
        if record.state.is_final and ends[job_id] != 1:
            yield f"I2 {job_id} ended {ends[job_id]} times by its audit"
    seen: dict[str, str] = {}
    for line in evidence.history:
        if line["op"] != "read" or line.get("status") != 200:
            continue
        status = line["body"]["task_status"]
        told = status + str([part["url"].partition("?")[0] for part in line["body"].get("video_result", [])])
        before = seen.get(line["task_id"])
        if before is not None and told != before:
            yield f"I2 {line['task_id']} was read as {before} and later as {told}"
        if status != "PROCESSING":
            seen[line["task_id"]] = told


def one_result(evidence: Evidence) -> Iterator[str]:
    published = defaultdict(set)
    for event in evidence.events:
        if event["what"] == "finish" and event["published"]:
            published[event["job_id"]].add(event["token"])
        if event["what"] == "resumed" and event["of"] != event["job_id"]:
            yield f"I3 {event['job_id']} went on from a checkpoint of {event['of']}"
    for job_id, tokens in published.items():
        if len(tokens) > 1:
            yield f"I3 doubled: {job_id} was published by {sorted(tokens)}"
    for job_id, record in evidence.records.items():
        yield from _result_problems(job_id, record, evidence.objects)


def _result_problems(job_id: str, record: JobRecord, objects: dict[str, bytes]) -> Iterator[str]:
    if record.state is JobState.SUCCEEDED and not record.is_deleted:
        yield from _video_problems(job_id, record, objects)
    elif record.state is not JobState.SUCCEEDED and record.video is not None:
        yield f"I3 {job_id} is {record.state} and has a video"


def _video_problems(job_id: str, record: JobRecord, objects: dict[str, bytes]) -> Iterator[str]:
    video = objects.get(record.video.key) if record.video else None
    if video is None or record.video is None or record.video.cover_key not in objects:
        yield f"I3 {job_id} succeeded without its video in the bucket"
    elif hashlib.sha256(video).hexdigest() != record.video.sha256 or len(video) != record.video.size_bytes:
        yield f"I3 {job_id}: the bucket holds another video than the record says"
    elif owner(video) != (told := _due(job_id, record)):
        yield f"I3 {job_id}: the video says {owner(video)}, the record says {told}"


def _due(job_id: str, record: JobRecord) -> dict[str, str | None]:
    trace = whole_work(job_id, record.job.spec.prompt)
    return {"job_id": job_id, "token": record.token, "trace": trace}


def audit_is_dense(evidence: Evidence) -> Iterator[str]:
    if evidence.audit_problem:
        yield f"I4 the chain does not verify: {evidence.audit_problem}"
    numbers = [line["seq"] for line in evidence.audit]
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) != evidence.audit_seq:
        yield f"I4 the audit is not dense: {len(numbers)} records, counter {evidence.audit_seq}"
    accepted = Counter(line["task_id"] for line in evidence.audit if line["event"] == "accepted")
    for job_id in evidence.records.keys() | accepted.keys():
        if accepted[job_id] != 1 or job_id not in evidence.records:
            yield f"I4 {job_id}: {accepted[job_id]} accepts in the audit, record: {job_id in evidence.records}"


def changes_are_lawful(evidence: Evidence) -> Iterator[str]:
    """The audit of each job, read as a path of the state machine; claims in it are the claims of the record."""
    state: dict[str, str] = defaultdict(str)
    claims: Counter[str] = Counter()
    for line in evidence.audit:
        job_id, event = line.get("task_id", ""), line["event"]
        if event not in LASTING_CHANGES:
            continue
        if event not in FOLLOWS.get(state[job_id], set()):
            yield f"I2 {job_id}: {event} after {state[job_id] or 'nothing'}"
        state[job_id] = event
        claims[job_id] += event == "claimed"
    for job_id, record in evidence.records.items():
        if claims[job_id] != len(record.attempts):
            yield f"I4 {job_id}: {claims[job_id]} claims in the audit, {len(record.attempts)} attempts in the record"
        if state[job_id] != record.state and record.state.is_final:
            yield f"I4 {job_id} is {record.state}, its audit ends with {state[job_id]}"


def charged_alone(evidence: Evidence) -> Iterator[str]:
    """Nobody fails but by its own fault, and every charge has an attempt that ended so."""
    for job_id, record in evidence.records.items():
        prompt, code = record.job.spec.prompt, record.error_code or ""
        if record.state is JobState.FAILED and not _deserves(prompt, code):
            yield f"I5 innocent failed: {job_id} ({prompt!r}) with {code}"
        if record.state is JobState.SUCCEEDED and _deserves(prompt, "poison"):
            yield f"I5 {job_id} ({prompt!r}) succeeded"
        ends = Counter(attempt.ended_by for attempt in record.attempts)
        charge = evidence.charges[job_id]
        # What came after a charge may be written over it: the verdict, or an ending that came in late.
        deaths = ends["engine_died"] + ends["engine_hung"] + ends["poison"]
        leases = ends["lease lost"] + ends["poison"] + (record.state.is_final and record.error_code != "poison")
        if charge["engine_deaths"] > deaths or charge["lost_leases"] > leases:
            yield f"I5 {job_id} was charged {charge} for attempts that ended by {dict(ends)}"


def _deserves(prompt: str, code: str) -> bool:
    if prompt.startswith("fail:"):
        return code == prompt.removeprefix("fail:").split()[0] or code == "poison"
    return code == "poison" and prompt.startswith(("die", "segv", "orphan"))


def one_task_per_request(evidence: Evidence) -> Iterator[str]:
    tasks = defaultdict(set)
    for line in evidence.history:
        if line["op"] == "submit" and line.get("status") == 200:
            tasks[line["request_id"]].add(line["body"]["id"])
        if line["op"] == "conflict" and line.get("status") == 200:
            yield f"I6 {line['request_id']}: another body was accepted"
    for record in evidence.records.values():
        tasks[record.job.request_id].add(record.job.id)
    for request_id, ids in tasks.items():
        if len(ids) > 1:
            yield f"I6 {request_id} made {len(ids)} tasks"


def nothing_left(evidence: Evidence) -> Iterator[str]:
    for job_id in evidence.leases:
        yield f"I7 {job_id} still has a lease"
    for job_id in evidence.waiting:
        yield f"I7 {job_id} is still in line"
    for path in evidence.scratch:
        yield f"I7 {path} was left on the scratch disk"


def no_worker_overfull(evidence: Evidence) -> Iterator[str]:
    """No job had two attempts open, and no worker held more jobs at once than it may."""
    changes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for job_id, record in evidence.records.items():
        yield from _overlaps(job_id, record)
        for attempt in record.attempts:
            # A claim whose answer was lost is held by nobody until its lease ends.
            if attempt.ended_ms is not None and attempt.ended_by != "lease lost":
                changes[attempt.worker] += [(attempt.started_ms, 1), (attempt.ended_ms, -1)]
    for worker, steps in changes.items():
        most = max(accumulate(step for _, step in sorted(steps)))
        if most > MAX_JOBS:
            yield f"I8 {worker} held {most} jobs at once"


def _overlaps(job_id: str, record: JobRecord) -> Iterator[str]:
    for attempt, following in zip_longest(record.attempts, record.attempts[1:]):
        if attempt.ended_ms is None:
            yield f"I8 {job_id}: attempt {attempt.token} never ended"
        elif following and following.started_ms < attempt.ended_ms:
            yield f"I8 {job_id} ran twice at once: {attempt.token} and {following.token}"


def answers_as_promised(evidence: Evidence) -> Iterator[str]:
    deleted = {line["task_id"] for line in evidence.history if line["op"] == "cancel"}
    for line in evidence.history:
        status = line.get("status", 0)
        if status >= 500 and (status != 503 or not line["retry_after"] or "error" not in line["body"]):
            yield f"I9 {line['op']} was answered {status}: {str(line['body'])[:200]}"
        if line["op"] in ("submit", "read") and 400 <= status < 500 and line["task_id"] not in deleted:
            yield f"I9 {line['op']} {line['task_id']} was refused: {str(line['body'])[:200]}"
