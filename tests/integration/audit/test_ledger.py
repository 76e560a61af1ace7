"""What is appended is sealed once, in order, by one sealer; what cannot be exported closes accept."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from arq.connections import ArqRedis

from video_jobs import keys
from video_jobs.audit.archive import Archive
from video_jobs.audit.chain import SigningKey
from video_jobs.audit.content import PromptForm
from video_jobs.audit.ledger import Ledger, Sealed
from video_jobs.audit.log import REFUSALS_PER_MINUTE, AuditLog, Origin, Who
from video_jobs.audit.reader import Trail
from video_jobs.audit.sealer import Sealer
from video_jobs.audit.search import Query, search
from video_jobs.audit.verify import Trust, verify
from video_jobs.job import ImageRef, Job, JobState, Outcome, Rendered, VideoFile
from video_jobs.store import JobStore
from video_jobs.verdicts import AuditFull

Seal = Callable[..., Awaitable[None]]


async def found(archive: Archive, ledger: Ledger, **query: object) -> list[dict[str, object]]:
    return [record async for record in search(Trail(archive, ledger), Query(**query))]


async def is_whole(archive: Archive, ledger: Ledger, key: SigningKey) -> int:
    """How many records verify."""
    trust = Trust([key.public], [key.mark_key])
    report = await verify(archive, ledger, (await ledger.state()).chain_id, trust)
    assert report.bad is None, report.bad
    return report.records


async def test_every_change_of_a_job_is_on_record_with_all_that_is_known(
    redis_client: ArqRedis, new_job: Callable[..., Job], ledger: Ledger, archive: Archive, key: SigningKey, seal: Seal
) -> None:
    store = JobStore(redis_client)
    job = new_job(user_id="user-1")
    image = ImageRef(key="images/x.png", sha256="ab" * 32, width=64, height=64)
    job = job.model_copy(update={"spec": job.spec.model_copy(update={"image": image})})
    await store.accept(job, Origin(client="192.0.2.7", user_agent="curl/8"))
    claim = await store.claim("w1", ["tiny"])
    assert claim is not None
    rendered = Rendered(prompt="A cat, in detail.", prompt_by="http:m", stage_seconds={"denoise": 2.5, "text": 0.5})
    video = VideoFile(key="v", cover_key="c", size_bytes=1, sha256="cd" * 32, cover_sha256="ef" * 32)
    await store.finish(claim, Outcome(state=JobState.SUCCEEDED, rendered=rendered, video=video))
    await seal()

    accepted, claimed, ended = await found(archive, ledger, task_id=job.id)

    assert (accepted["event"], claimed["event"], ended["event"]) == ("accepted", "claimed", "succeeded")
    who = {"tenant": "acme", "key_id": "key", "user_id": "user-1", "request_id": job.request_id, "model": "cogvideox-2"}
    assert all(who.items() <= record.items() for record in (accepted, claimed, ended))
    assert (accepted["client"], accepted["user_agent"], accepted["prompt"]) == ("192.0.2.7", "curl/8", "a cat")
    assert accepted["parameters"]["seed"] == 1
    assert accepted["image_sha256"] == "ab" * 32
    assert (ended["outcome"], ended["gpu_seconds"], ended["rendered_prompt"]) == ("succeeded", 3.0, "A cat, in detail.")
    assert ended["result_sha256"] == {"video": "cd" * 32, "cover": "ef" * 32}
    assert await is_whole(archive, ledger, key) == 3
    assert not await redis_client.hexists(keys.job(job.id), "origin")


@pytest.mark.parametrize("form", list(PromptForm))
async def test_prompts_are_kept_as_the_operator_says(
    form: PromptForm, redis_client: ArqRedis, new_job: Callable[..., Job], ledger: Ledger, archive: Archive, seal: Seal
) -> None:
    await JobStore(redis_client).accept(new_job())
    await seal(prompts=form)

    (record,) = await found(archive, ledger)

    assert ("prompt" in record) is (form is PromptForm.KEPT)
    assert ("prompt_hmac_sha256" in record) is (form is PromptForm.HASHED)
    assert await redis_client.lrange(keys.AUDIT, 0, -1) == []
    held = str(await redis_client.lrange(keys.AUDIT_SEALED, 0, -1)) + str(
        await redis_client.hgetall(keys.AUDIT_CONTENT)
    )
    assert ("a cat" in held) is (form is PromptForm.KEPT)


async def test_two_would_be_sealers_never_fork_the_chain(
    ledger: Ledger, archive: Archive, key: SigningKey, new_sealer: Callable[..., Sealer], redis_client: ArqRedis
) -> None:
    first, second = new_sealer(checkpoint_s=0), new_sealer(checkpoint_s=0)
    for round_number in range(30):
        for number in range(40):
            await ledger.note({"event": "x", "detail": f"{round_number}/{number}"})
        # The lease ends at every moment: each of the two is the rightful sealer again and again.
        await redis_client.hset(keys.AUDIT_STATE, "until", 0)
        await asyncio.gather(first.work(), _usurp(redis_client, second), second.work(), first.work())
    await first.settle()
    await second.settle()
    await redis_client.hset(keys.AUDIT_STATE, "until", 0)
    await first.work()

    assert await is_whole(archive, ledger, key) == 1200
    assert int(await redis_client.hget(keys.AUDIT_STATE, "fence")) > 10


async def _usurp(redis: ArqRedis, sealer: Sealer) -> None:
    for _ in range(3):
        await redis.hset(keys.AUDIT_STATE, "until", 0)
        await sealer.work()


async def test_a_sealer_whose_turn_is_over_cannot_seal(ledger: Ledger, key: SigningKey) -> None:
    await ledger.note({"event": "x"})
    old = await ledger.take_turn("old", 0, 1000)
    new = await ledger.take_turn("new", 10, 1000)
    assert old
    assert new
    raw = await ledger.raw(10)
    line, head = key.seal(old.head, json.loads(raw[0]))

    assert not await ledger.seal(old, Sealed(1, head, [(line, None)], None))
    assert await ledger.seal(new, Sealed(1, head, [(line, None)], None))
    assert await ledger.seal(new, Sealed(1, head, [(line, None)], None)), "the second time as the first"
    assert (await ledger.state()).sealed == 1


async def test_a_checkpoint_is_signed_even_when_nothing_happens(
    ledger: Ledger, archive: Archive, new_sealer: Callable[..., Sealer]
) -> None:
    await ledger.note({"event": "x"})
    sealer = new_sealer(checkpoint_s=0.05)
    await sealer.work()
    before = (await ledger.checkpoints())[1]
    await asyncio.sleep(0.1)
    await sealer.work()
    await sealer.settle()

    assert (await ledger.checkpoints())[1] != before
    head = archive.head((await ledger.state()).chain_id)
    assert head is not None
    assert head.checkpoint.seq == 1


async def test_refusals_of_a_key_are_told_one_by_one_and_then_counted(
    redis_client: ArqRedis, ledger: Ledger, archive: Archive, seal: Seal
) -> None:
    logs = [AuditLog(ledger), AuditLog(ledger)]
    for number in range(100):
        await logs[number % 2].refused(
            Who(tenant="acme", key_id="k1"), Origin(client="192.0.2.1"), "1214", "create_video"
        )
    for log in logs:
        await log.flush()
    await _end_minute(redis_client)
    await seal()

    records = await found(archive, ledger)

    told = [record for record in records if record["event"] == "refused"]
    (counted,) = [record for record in records if record["event"] == "counted"]
    assert len(told) == REFUSALS_PER_MINUTE
    assert counted["counts"] == {"refused:k1:1214": 100 - REFUSALS_PER_MINUTE}


async def test_strangers_and_polls_are_counted_by_the_minute(
    redis_client: ArqRedis, ledger: Ledger, archive: Archive, seal: Seal
) -> None:
    log = AuditLog(ledger)
    for _ in range(100_000):
        log.refused_anonymous("1001")
    for _ in range(7):
        log.polled("acme")
    await log.flush()
    await _end_minute(redis_client)
    await seal()

    (counted,) = await found(archive, ledger)

    assert counted["counts"] == {"anonymous:1001": 100_000, "polls:acme": 7}


async def test_the_first_issue_of_a_link_to_a_caller_is_on_record(
    redis_client: ArqRedis, new_job: Callable[..., Job], ledger: Ledger, archive: Archive, seal: Seal
) -> None:
    job = new_job()
    await JobStore(redis_client).accept(job)
    log = AuditLog(ledger)
    for key_id in ("k1", "k2", "k1", "k2"):
        await log.issued(job.id, Who(tenant="acme", key_id=key_id), Origin(client="192.0.2.1"))
    await log.issued("1" * 25, Who(tenant="acme", key_id="k1"), Origin())
    await seal()

    issued = await found(archive, ledger, event="link issued")

    assert [record["key_id"] for record in issued] == ["k1", "k2"]
    assert {record["task_id"] for record in issued} == {job.id}


async def test_accept_closes_when_the_backlog_is_full_and_opens_again(
    redis_client: ArqRedis, new_job: Callable[..., Job], ledger: Ledger, new_sealer: Callable[..., Sealer]
) -> None:
    store, log = JobStore(redis_client), AuditLog(ledger)
    sealer = new_sealer(backlog=20)
    for _ in range(19):
        await ledger.note({"event": "x"})
    await ledger.take_turn("sealer", 0, 20)
    await store.accept(new_job())
    with pytest.raises(AuditFull):
        await store.accept(new_job())
    await log.refused(Who(key_id="k"), Origin(), "1214", "create_video")
    assert (await ledger.state()).newest == 20, "refusals are counted while the backlog is full"

    await sealer.work()
    await sealer.settle()
    assert (await ledger.state()).exported == 20
    assert await store.accept(new_job())


async def test_an_entry_that_cannot_be_read_keeps_no_other_from_being_sealed(
    redis_client: ArqRedis, ledger: Ledger, archive: Archive, key: SigningKey, seal: Seal
) -> None:
    """A record of a release to come, and what somebody with Redis may have put there."""
    strange = [
        {"event": "succeeded", "tenant": "acme", "task_id": "1", "outcome": json.dumps({"state": "succeeded"})},
        {"event": "accepted", "tenant": "acme", "job": "{"},
        {"event": "x", "origin": "[]", "client": "192.0.2.1"},
    ]
    for entry in strange:
        await ledger.note(entry)
    await redis_client.rpush(keys.AUDIT, b"garbage", b"[]", b"{}", b'{"seq":7,"at_ms":1e400,"event":"x"}', b"\xff" * 9)
    await redis_client.set(keys.AUDIT_SEQ, 8)
    await ledger.note({"event": "after"})
    await seal()

    records = await found(archive, ledger)

    assert [record["event"] for record in records] == ["succeeded", "accepted", "x", *["unreadable"] * 5, "after"]
    assert [record.get("unread") for record in records[:4]] == ["job or outcome"] * 3 + [None]
    assert await is_whole(archive, ledger, key) == 9


async def _end_minute(redis: ArqRedis) -> None:
    await redis.hset(keys.AUDIT_COUNTS, "minute", 1)
