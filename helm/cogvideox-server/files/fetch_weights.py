"""Fetch weights from the hub into the model cache and verify them; or wait until somebody has.

`fetch_weights.py fetch|wait CONFIG FOLDER`. Each item of CONFIG names a repository, a revision and the SHA-256 of every
file of weights. A marker beside the files says which item they are, and is written only when all digests are right.
"""

import fcntl
import hashlib
import json
import os
import sys
import time
from pathlib import Path

PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
ENDINGS = ("*.json", "*.safetensors", "*.model", "*.txt")
NAP_SECONDS = 5


class WeightsRefused(Exception):
    """What was fetched is not what the checksums promise."""


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
    from huggingface_hub import snapshot_download

    say("fetching", item)
    folder = root / item["path"]
    patterns = [f"{part}/{ending}" for part in PARTS for ending in ENDINGS]
    snapshot_download(
        item["repo"],
        revision=item["revision"],
        local_dir=folder,
        allow_patterns=[*patterns, "model_index.json"],
        token=hub_token(),
    )
    verify(item, folder)
    half = marker(item, root).with_suffix(".half")
    half.write_text(digest_of(item))
    half.replace(marker(item, root))
    say("complete and verified", item)


def verify(item, folder):
    """Every file of weights has a digest, and it is right; every digest has its file."""
    expected = item["sha256"]
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")}
    if unknown := sorted(found - expected.keys()):
        raise WeightsRefused(f"no checksum for {', '.join(unknown)}")
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            raise WeightsRefused(f"{name} is not in the repository")
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != digest:
            path.unlink()
            raise WeightsRefused(f"{name} has SHA-256 {actual}, not {digest}; it was deleted")


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


def hub_token():
    path = os.environ.get("HF_TOKEN_PATH")
    return Path(path).read_text().strip() if path else None


def say(what, item):
    print(json.dumps({"event": what, "path": item["path"], "repo": item["repo"]}), file=sys.stderr, flush=True)


def main():
    mode, config, root = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    told = json.loads(config.read_text())
    deadline = time.monotonic() + told["timeout_s"]
    try:
        {"fetch": fetch, "wait": wait}[mode](told["items"], root, deadline)
    except (WeightsRefused, TimeoutError) as exc:
        sys.exit(f"fetch_weights: {exc}")


if __name__ == "__main__":
    main()
