"""Fetch weights from a hub into the model cache and verify them; or wait until somebody has.

`fetch_weights.py fetch|wait CONFIG FOLDER`. Each item of CONFIG names a repository, a revision and the SHA-256 of every
file of weights. A marker beside the files says which item they are, and is written only when all digests are right.
"""

import fcntl
import hashlib
import json
import sys
import time
from pathlib import Path

from gpu_worker.weights.folders import damage, digest, write_manifest
from gpu_worker.weights.hubs import hub_of
from video_jobs.errors import ModelUnavailable

NAP_SECONDS = 5


def fetch(items, root, deadline):
    """Fetch what is not complete yet. On a shared folder one process fetches, the others wait for its lock."""
    with (root / ".lock").open("w") as lock:
        while not locked(lock):
            if time.monotonic() > deadline:
                raise TimeoutError("another process holds the lock of the model cache")
            time.sleep(NAP_SECONDS)
        for item in items:
            if not is_complete(item, root):
                fetch_item(item, root)


def locked(lock):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fetch_item(item, root):
    hub, name = hub_of(item["repo"])
    found = hub.look_up(name, item["revision"])
    names = {file.path for file in found.files}
    if unknown := sorted(path for path in names - item["sha256"].keys() if path.endswith(".safetensors")):
        raise ModelUnavailable(f"{name}: no checksum for {', '.join(unknown)}")
    if absent := sorted(item["sha256"].keys() - names):
        raise ModelUnavailable(f"{name}: {', '.join(absent)} is not in the repository, or not needed")
    say("fetching", item)
    folder = root / item["path"]
    hub.download(found, sorted(names), folder)
    verify(item, folder)
    if broken := list(damage(folder, found.files)):
        raise ModelUnavailable(f"{name}: {'; '.join(broken[:3])}")
    write_manifest(folder, found)
    half = marker(item, root).with_suffix(".half")
    half.write_text(digest_of(item))
    half.replace(marker(item, root))
    say("complete and verified", item)


def verify(item, folder):
    """The operator's digests rule, whatever the hub says of itself."""
    for name, expected in item["sha256"].items():
        if (actual := digest(folder / name)) != expected:
            (folder / name).unlink()
            raise ModelUnavailable(f"{name} has SHA-256 {actual}, not {expected}; it was deleted")


def wait(items, root, deadline):
    """Return when every item is complete."""
    while missing := [item for item in items if not is_complete(item, root)]:
        if time.monotonic() > deadline:
            raise TimeoutError("the weights did not come: look at the log of the fetch Job")
        say("waiting for", missing[0])
        time.sleep(NAP_SECONDS)


def is_complete(item, root):
    path = marker(item, root)
    return path.is_file() and path.read_text() == digest_of(item)


def marker(item, root):
    return root / item["path"] / ".complete"


def digest_of(item):
    return hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()


def say(what, item):
    print(json.dumps({"event": what, "path": item["path"], "repo": item["repo"]}), file=sys.stderr, flush=True)


def main():
    mode, config, root = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    told = json.loads(config.read_text())
    deadline = time.monotonic() + told["timeout_s"]
    try:
        {"fetch": fetch, "wait": wait}[mode](told["items"], root, deadline)
    except (ModelUnavailable, TimeoutError) as exc:
        sys.exit(f"fetch_weights: {exc}")


if __name__ == "__main__":
    main()
