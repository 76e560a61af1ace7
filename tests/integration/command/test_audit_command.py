"""`cogvideox-server audit` and `users`, as an operator types them, on a machine without a running gateway."""

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from arq.connections import ArqRedis

from video_jobs import keys
from video_jobs.audit.log import Origin
from video_jobs.audit.office import open_audit
from video_jobs.audit.verify import verify
from video_jobs.job import Job
from video_jobs.settings import AuditSettings
from video_jobs.store import JobStore

Run = Callable[..., Awaitable["subprocess.CompletedProcess[str]"]]


@pytest.fixture
def run(redis_url: str, tmp_path: Path) -> Run:
    async def act(*args: str) -> "subprocess.CompletedProcess[str]":
        where = ["--state", str(tmp_path), "--redis-url", redis_url]
        argv = [sys.executable, "-P", "-m", "cogvideox_server", *args, *where]
        return await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, env=os.environ)

    return act


@pytest.fixture
async def trail(redis_client: ArqRedis, new_job: Callable[..., Job], tmp_path: Path) -> Job:
    """Some records, sealed, and the key that signs them."""
    job = new_job(user_id="user-1")
    job = job.model_copy(update={"spec": job.spec.model_copy(update={"prompt": "=1+1"})})
    await JobStore(redis_client).accept(job, Origin(client="192.0.2.1"))
    office = open_audit(AuditSettings(state=tmp_path), redis_client)
    await office.sealer.work()
    return job


async def test_a_whole_trail_is_told_and_a_changed_one_is_located(run: Run, trail: Job, redis_client: ArqRedis) -> None:
    said = await run("audit", "verify", "--json")
    assert (said.returncode, json.loads(said.stdout)["ok"]) == (0, True)

    line = (await redis_client.lrange(keys.AUDIT_SEALED, 0, 0))[0]
    await redis_client.lset(keys.AUDIT_SEALED, 0, line.replace(b"accepted", b"rejected"))
    said = await run("audit", "verify")

    assert said.returncode == 1
    assert "BAD at record 1: altered" in said.stdout


async def test_an_auditor_needs_the_public_key_alone(run: Run, trail: Job, tmp_path: Path) -> None:
    public = (await run("audit", "key")).stdout.strip()

    (tmp_path / "master.key").unlink()
    assert (await run("audit", "verify", "--public-key", public)).returncode == 0
    assert (await run("audit", "search", "--user", "user-1")).stdout.count("\n") == 1
    wrong = await run("audit", "verify", "--public-key", "00" * 32)
    assert wrong.returncode == 1
    assert list(tmp_path.glob("*.key")) == [], "no key is made where one only reads"


async def test_a_chain_that_somebody_remembers_cannot_be_gone(run: Run, trail: Job, redis_client: ArqRedis) -> None:
    told = json.loads((await run("audit", "verify", "--json")).stdout)
    anchor = f"{told['chain_id']}:1:{told['signed']['chain']}"
    assert (await run("audit", "verify", "--anchor", anchor)).returncode == 0
    await redis_client.flushall()
    await JobStore(redis_client).pause("*", "operator")
    await run("audit", "erase", "--tenant", "acme", "--user", "nobody")

    both = await run("audit", "verify", "--anchor", anchor)
    assert (both.returncode, both.stdout.count("BAD")) == (1, 1)
    assert (await run("audit", "verify", "--anchor", "x:1")).returncode == 1


async def test_a_trail_goes_on_under_a_new_master_key(
    run: Run, trail: Job, redis_client: ArqRedis, tmp_path: Path
) -> None:
    old = (tmp_path / "master.key").rename(tmp_path / "old.key")
    await JobStore(redis_client).cancel("acme", trail.id)
    settings = AuditSettings(state=tmp_path, old_key_files=(old,))
    office = open_audit(settings, redis_client)
    await redis_client.hset(keys.AUDIT_STATE, "until", 0)
    await office.sealer.work()
    await office.sealer.settle()

    assert (await run("audit", "verify")).returncode == 1
    assert (await run("audit", "verify", "--old-key", str(old))).returncode == 0
    (chain,) = await office.trail.chains()
    assert (await verify(office.archive, office.ledger, chain, office.trust)).bad is None


async def test_search_finds_by_user_and_writes_safe_csv(run: Run, trail: Job) -> None:
    assert json.loads((await run("audit", "search", "--user", "user-1")).stdout)["task_id"] == trail.id
    assert (await run("audit", "search", "--user", "somebody")).stdout == ""
    sheet = (await run("audit", "search", "--task", trail.id, "--csv")).stdout
    (row,) = csv.DictReader(io.StringIO(sheet))
    assert (row["prompt"], row["client"], row["user_id"]) == ("'=1+1", "192.0.2.1", "user-1")
    assert (await run("audit", "search", "--since", "2020-01-01", "--until", "2020-01-02")).stdout == ""
    assert (await run("audit", "search", "--since", "2020-01-01", "--until", "9999-12-31")).stdout != ""


async def test_erase_works_without_a_gateway_and_the_trail_still_holds(run: Run, trail: Job) -> None:
    said = await run("audit", "erase", "--tenant", "acme", "--user", "user-1")
    assert said.returncode == 0, said.stderr

    records = [json.loads(line) for line in (await run("audit", "search", "--user", "user-1")).stdout.splitlines()]
    assert all("prompt" not in record and "client" not in record for record in records)
    told = json.loads((await run("audit", "verify", "--json")).stdout)
    assert (told["ok"], told["erased"]) == (True, 1)


async def test_erasing_says_how_much_it_found_and_what_the_jobs_still_hold(
    run: Run, trail: Job, redis_client: ArqRedis
) -> None:
    args = ("audit", "erase", "--tenant", "acme", "--user")
    assert "content of 0 records about user-2" in (await run(*args, "user-2")).stderr
    said = (await run(*args, "user-1")).stderr
    assert "content of 1 records about user-1" in said
    assert "1 jobs of theirs still hold their prompt" in said

    assert "forgot 0 jobs and their videos; 1 have not ended" in (await run(*args, "user-1", "--jobs")).stderr
    await JobStore(redis_client).cancel("acme", trail.id)
    assert "forgot 1 jobs and their videos\n" in (await run(*args, "user-1", "--jobs")).stderr
    assert not await redis_client.exists(keys.job(trail.id))


async def test_users_are_blocked_listed_and_freed_and_it_is_on_record(run: Run, trail: Job) -> None:
    args = ("--tenant", "acme", "--user", "user-1")
    assert (await run("users", "block", *args, "--reason", "spam", "--for", "1h")).returncode == 0
    held = json.loads((await run("users", "list", "--json")).stdout)
    assert (held["measure"], held["reason"]) == ("block", "spam")
    assert held["until_ms"]
    assert (await run("users", "lift", *args)).returncode == 0
    assert (await run("users", "list")).stdout == ""

    made = (await run("keys", "create", "--tenant", "acme", "--name", "web")).stdout.strip()
    assert (await run("keys", "revoke", made)).returncode == 0
    await run("audit", "erase", "--tenant", "acme", "--user", "nobody-6")
    told = [json.loads(line) for line in (await run("audit", "search", "--event", "admin")).stdout.splitlines()]
    assert [record["detail"] for record in told] == [
        *("users block", "users lift", "keys create", "key made", "keys revoke")
    ]
    assert made.partition(".")[2] not in json.dumps(told)


async def test_without_its_key_the_audit_says_so(run: Run) -> None:
    said = await run("audit", "verify")

    assert said.returncode == 1
    assert "COGVIDEOX_MASTER_KEY_FILE" in said.stderr
    assert "Traceback" not in said.stderr
