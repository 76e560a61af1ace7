"""`cogvideox-server keys` and `tenants` on a real Redis, as an operator types them."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from video_jobs import keys
from video_jobs.catalogue import load_catalogue
from video_jobs.job import Job, JobState, Outcome, Rendered, VideoSpec
from video_jobs.queue import open_redis
from video_jobs.store import JobStore

WHOLE = "0123456789abcdef0123456789abcdef.SecretSecret1234"


@pytest.fixture
def run(redis_url: str, tmp_path: Path) -> object:
    def act(*args: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-P", "-m", "cogvideox_server", *args, "--redis-url", redis_url]
        return subprocess.run(
            [*command, "--state", str(tmp_path)], capture_output=True, text=True, input=stdin, env={**os.environ}
        )

    return act


async def test_keys_are_made_rolled_imported_and_revoked(run, redis_url: str) -> None:  # type: ignore[no-untyped-def]
    options = ["--tenant", "acme", "--name", "web", "--scope", "read", "--expires", "30d", "--model", "cogvideox-2"]
    made = run("keys", "create", *options, "--network", "10.1.2.3/8")
    old = made.stdout.strip()
    assert re.fullmatch(r"cvx-\w{16}\.\w{49}", old)
    assert "not shown again" in made.stderr

    new = run("keys", "roll", old, "--overlap", "10m").stdout.strip()
    assert run("keys", "import", "--tenant", "acme", "--name", "old", stdin=f"{WHOLE}\n").stdout == f"{WHOLE[:32]}\n"
    assert run("keys", "revoke", new.partition(".")[0]).returncode == 0

    listed = {key["id"]: key for key in map(json.loads, run("keys", "list", "--json").stdout.splitlines())}
    assert {key["state"] for key in listed.values()} == {"active", "revoked"}
    assert listed[old.partition(".")[0]]["terms"]["networks"] == ["10.0.0.0/8"]
    assert 500 < listed[old.partition(".")[0]]["terms"]["expires"] - time.time() < 601
    assert listed[new.partition(".")[0]]["state"] == "revoked"
    everything = run("keys", "list").stdout + json.dumps(listed)
    assert not [key for key in (old, new, WHOLE) if key.partition(".")[2] in everything]
    assert run("keys", "list", "--tenant", "globex").stdout == ""
    redis = await open_redis(redis_url)
    audited = [json.loads(line) for line in await redis.lrange(keys.AUDIT, 0, -1)]
    await redis.aclose()
    calls = [*("keys create", "key made", "keys roll", "key made", "keys import", "key made", "keys revoke")]
    assert [entry["detail"] for entry in audited] == calls
    assert "@" in audited[0]["key_id"]
    assert audited[1]["about"] == old.partition(".")[0]
    assert json.loads(audited[0]["about"])["scope"] == ["read"]
    assert not [key for key in (old, new, WHOLE) if key.partition(".")[2] in str(audited)]


def test_a_new_master_key_takes_all_keys_over(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run("keys", "create", "--tenant", "acme")
    run("keys", "create", "--tenant", "globex", "--expires", "9999-12-31")
    run("keys", "revoke", run("keys", "create").stdout.strip())
    old = (tmp_path / "master.key").rename(tmp_path / "old.key")
    assert run("keys", "list").stdout.count("cvx-") == 3
    assert "another master key" in run("keys", "create").stderr
    lost = run("keys", "reseal")
    assert lost.returncode == 1
    assert lost.stderr.count("cvx-") == 2

    assert run("keys", "reseal", "--old", str(old)).stderr == "2 keys are sealed under the new master key\n"
    assert run("keys", "reseal").stderr == "0 keys are sealed under the new master key\n"
    assert run("keys", "reseal", "--old", str(tmp_path / "none")).returncode == 2


def test_mistakes_are_one_line(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "bad.yaml").write_text("plans: {gold: {limits: {request: 1}}}")
    run("keys", "import", stdin=WHOLE)
    for args, stdin in (
        (["keys", "create", "--tenant", "a:b"], ""),
        (["keys", "create", "--network", "10.0.0.0/40"], ""),
        (["keys", "roll", "cvx-none"], ""),
        (["keys", "revoke", "cvx-none"], ""),
        (["keys", "import"], "no key\n"),
        (["keys", "import"], WHOLE),
        (["tenants", "show", "nobody"], ""),
        (["tenants", "set", "acme", "--plan", "none"], ""),
        (["tenants", "set", "acme", "--limit", "queue=5"], ""),
        (["tenants", "set", "acme", "--weight", "-1"], ""),
        (["tenants", "apply", str(tmp_path / "bad.yaml")], ""),
        (["tenants", "apply", str(tmp_path / "none.yaml")], ""),
        (["tenants", "usage", "--by", "colour"], ""),
    ):
        said = run(*args, stdin=stdin)
        assert (said.returncode, said.stderr.count("\n"), said.stdout) == (1, 1, ""), (args, said.stderr)
        assert WHOLE.partition(".")[2] not in said.stderr


def test_tenants_and_plans_are_set_and_applied(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run("tenants", "plan", "gold", "--class", "interactive", "--limit", "queued=50", "--limit", "running=4")
    run("tenants", "set", "acme", "--plan", "gold", "--title", "Acme 股份", "--limit", "queued=none")
    told = json.loads(run("tenants", "show", "acme").stdout)
    assert told["terms"]["limits"]["running"] == 4
    assert "queued" not in told["terms"]["limits"]
    run("tenants", "set", "acme", "--limit", "queued=plan", "--enabled", "no")
    told = json.loads(run("tenants", "show", "acme").stdout)
    assert (told["terms"]["limits"]["queued"], told["terms"]["enabled"]) == (50, False)
    assert run("tenants", "set", "acme", "--enabled", "no").stderr == "as it was\n"

    declared = tmp_path / "tenants.yaml"
    declared.write_text("tenants: {acme: {plan: gold, title: Acme 股份}, globex: {}}")
    assert run("tenants", "apply", str(declared), "--check").stdout == ""
    assert run("tenants", "apply", str(declared)).stdout == "tenant acme\ntenant globex\n"
    assert run("tenants", "apply", str(declared)).stdout == ""
    assert [line.split("\t")[:3] for line in run("tenants", "list").stdout.splitlines()] == [
        ["acme", "gold", "on"],
        ["globex", "default", "on"],
    ]
    assert json.loads(run("tenants", "plans", "--json").stdout)["gold"]["service_class"] == "interactive"


async def test_usage_is_summed_and_safe_to_open(run, redis_url: str) -> None:  # type: ignore[no-untyped-def]
    await use(redis_url)

    rows = [json.loads(line) for line in run("tenants", "usage").stdout.splitlines()]
    by_tenant = [json.loads(line) for line in run("tenants", "usage", "--by", "tenant").stdout.splitlines()]
    sheet = list(csv.DictReader(io.StringIO(run("tenants", "usage", "--csv", "--user", "=1+1 eval").stdout)))

    assert len(rows) == 3
    assert {row["user_id"] for row in rows} == {"=1+1 eval", "user-2", ""}
    assert {row["day"] for row in rows} == {time.strftime("%Y-%m-%d", time.gmtime())}
    totals = {row.pop("tenant"): row for row in by_tenant}
    assert totals["acme"] == {
        **{"requests": 3, "videos": 2, "seconds": 10, "gpu_seconds": 5.0, "failed": 1, "cancelled": 0, "refused": 0}
    }
    assert totals["globex"]["requests"] == 1
    assert [row["user_id"] for row in sheet] == ["'=1+1 eval"]
    assert run("tenants", "usage", "--since", "2020-01-01", "--until", "2020-01-02").stdout == ""


async def use(redis_url: str) -> None:
    spec = VideoSpec(model="cogvideox-2", prompt="a cat", width=720, height=480, fps=30, duration_s=5, seed=1)
    plan = load_catalogue().plan(spec, "tiny")
    redis = await open_redis(redis_url)
    store = JobStore(redis)
    for number, (tenant, user) in enumerate([*[("acme", "=1+1 eval")] * 2, ("acme", "user-2"), ("globex", None)]):
        fields = {"id": str(number) * 25, "request_id": f"r{number}", "body_hash": "x", "key_id": "k", "route": "tiny"}
        fields |= {"tenant": tenant, "user_id": user, "spec": spec, "plan": plan, "cost_s": 1}
        await store.accept(Job.model_validate(fields))
    for _ in range(3):
        claim = await store.claim("w", ["tiny"])
        assert claim is not None
        record = await store.get(claim.job_id)
        assert record is not None
        if record.job.tenant == "globex":
            continue
        ended = JobState.FAILED if record.job.user_id == "user-2" else JobState.SUCCEEDED
        await store.finish(claim, Outcome(state=ended, rendered=Rendered(stage_seconds={"denoise": 2.0})))
    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    await store.finish(
        claim, Outcome(state=JobState.SUCCEEDED, rendered=Rendered(stage_seconds={"text": 0.5, "denoise": 0.5}))
    )
    await redis.aclose()
