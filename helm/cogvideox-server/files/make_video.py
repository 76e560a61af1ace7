"""The helm test: make an API key, ask for one video, poll to the end, fetch the MP4, revoke the key."""

import argparse
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

POLL_SECONDS = 2


def main():
    args = parse_args()
    # Should revoking fail, the key still ends by itself.
    key = command("create", "--tenant", "helm-test", "--name", "helm test", "--expires", "1d")
    try:
        video = make_video(args, key)
        size = fetch(video["url"], args)
        fetch(video["cover_image_url"], args)
    finally:
        command("revoke", key.partition(".")[0])
    print(f"SUCCESS: {size} bytes of MP4 in {time.monotonic() - STARTED:.0f} s")


def parse_args():
    parser = argparse.ArgumentParser()
    for name in ("url", "public-url", "model", "size"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--timeout", type=float, required=True)
    return parser.parse_args()


def command(*words):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cogvideox_server", "keys", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"cogvideox-server keys {words[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def make_video(args, key):
    body = {"model": args.model, "prompt": "a red ball rolls over green grass", "size": args.size, "fps": 30}
    task = ask(f"{args.url}/videos/generations", key, json.dumps(body).encode())
    deadline = time.monotonic() + args.timeout
    while (result := ask(f"{args.url}/async-result/{task['id']}", key))["task_status"] == "PROCESSING":
        if time.monotonic() > deadline:
            sys.exit(f"task {task['id']} is not done after {args.timeout:.0f} s: is a worker ready?")
        time.sleep(POLL_SECONDS)
    if result["task_status"] != "SUCCESS":
        sys.exit(f"task {task['id']} failed: {result.get('error')}")
    return result["video_result"][0]


def ask(url, key, body=None):
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Accept-Language": "en"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as exc:
        sys.exit(f"{url} answered {exc.code}: {exc.read(2000).decode(errors='replace')}")


def fetch(url, args):
    """Links point at the public URL, which a pod may not reach: the same path is asked of the Service."""
    service = args.url.partition("://")[2].partition("/")[0]
    inner = url.replace(args.public_url.rstrip("/"), f"http://{service}", 1)
    with urllib.request.urlopen(inner, timeout=60, context=trusted()) as reply:
        content = reply.read()
    if content[4:8] != b"ftyp" and not content.startswith((b"\xff\xd8", b"\x89PNG")):
        sys.exit(f"{inner} holds neither an MP4 nor an image")
    return len(content)


def trusted():
    """Presigned links lead to the bucket, whose CA may be the operator's own."""
    context = ssl.create_default_context()
    if bundle := os.environ.get("COGVIDEOX_S3_CA_BUNDLE"):
        context.load_verify_locations(bundle)
    return context


STARTED = time.monotonic()

if __name__ == "__main__":
    main()
