"""What only the bucket has: endpoints, encryption, credentials, and links that it answers itself."""

import hashlib
import hmac
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import boto3
import pytest
from starlette.testclient import TestClient

from server.app import create_app
from server.settings import GatewaySettings
from video_jobs.links import LinkSigner, PublicLinks, open_links, secret_file
from video_jobs.results import open_results
from video_jobs.s3 import S3Store
from video_jobs.settings import StoreSettings

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # the documentation's example, as in the fixture
KEY = "videos/1/2-ab/video.mp4"


@pytest.fixture
def bucket(s3_settings: StoreSettings, tmp_path: Path) -> S3Store:
    """One clip in the bucket."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"0123456789")
    store = S3Store(s3_settings)
    store.put(KEY, clip, "video/mp4")
    return store


def with_settings(settings: StoreSettings, **changes: object) -> StoreSettings:
    return StoreSettings(**(settings.model_dump() | changes))


def sigv4(link: str, secret: str) -> str:
    """The signature of a presigned link, computed from the public description of the algorithm."""
    parts = urlsplit(link)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "X-Amz-Signature"]
    given = dict(query)
    canonical_query = "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in sorted(query))
    canonical = f"GET\n{parts.path}\n{canonical_query}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = given["X-Amz-Credential"].split("/", 1)[1]
    text = f"AWS4-HMAC-SHA256\n{given['X-Amz-Date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def test_a_presigned_link_is_signed_for_the_public_endpoint_and_expires(s3_settings: StoreSettings) -> None:
    store = S3Store(with_settings(s3_settings, s3_public_endpoint="https://media.example"))
    link = store.link(KEY, int(time.time()) + 3600)
    given = dict(parse_qsl(urlsplit(link).query))

    assert link.startswith(f"https://media.example/{s3_settings.s3_bucket}/team/{KEY}?")
    assert given["X-Amz-Signature"] == sigv4(link, SECRET)
    assert sigv4(link.replace("video.mp4", "other.mp4"), SECRET) != given["X-Amz-Signature"]
    assert 3590 <= int(given["X-Amz-Expires"]) <= 3600


def test_a_presigned_link_opens_without_a_key(bucket: S3Store) -> None:
    with urllib.request.urlopen(bucket.link(KEY, int(time.time()) + 60)) as reply:
        assert reply.read() == b"0123456789"
        assert reply.headers["Content-Type"] == "video/mp4"


def test_links_come_from_the_bucket_only_while_its_credentials_last(
    s3_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = LinkSigner(b"k" * 32, "http://gateway.example")
    store = open_results(s3_settings)
    assert open_links(s3_settings, store, signer) is store
    assert open_links(with_settings(s3_settings, links="gateway"), store, signer) is signer

    monkeypatch.setenv("AWS_SESSION_TOKEN", "temporary")
    temporary = open_results(s3_settings)

    assert open_links(s3_settings, temporary, signer) is signer
    assert open_links(with_settings(s3_settings, links="presigned"), temporary, signer) is temporary


def test_public_links_are_plain_and_stable(s3_settings: StoreSettings) -> None:
    settings = with_settings(s3_settings, links="public", link_base="https://cdn.example/")
    links = open_links(settings, open_results(settings), LinkSigner(b"k" * 32, ""))

    assert isinstance(links, PublicLinks)
    assert links.link(KEY, 0) == f"https://cdn.example/team/{KEY}"


def test_encryption_and_storage_class_are_asked_for(s3_settings: StoreSettings, tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    clip.write_bytes(b"frames")
    settings = with_settings(s3_settings, s3_sse="AES256", s3_storage_class="STANDARD_IA")

    S3Store(settings).put(KEY, clip, "video/mp4")
    S3Store(settings).put("checkpoints/1/1-a/4", clip, "application/octet-stream")

    client = boto3.client("s3", endpoint_url=s3_settings.s3_endpoint, region_name="us-east-1")
    kept = client.head_object(Bucket=s3_settings.s3_bucket, Key="team/" + KEY)
    assert (kept["ServerSideEncryption"], kept["StorageClass"]) == ("AES256", "STANDARD_IA")
    passing = client.head_object(Bucket=s3_settings.s3_bucket, Key="team/checkpoints/1/1-a/4")
    assert "StorageClass" not in passing


def test_a_missing_bucket_and_a_silent_endpoint_are_os_errors(s3_settings: StoreSettings, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no bucket named none"):
        S3Store(with_settings(s3_settings, s3_bucket="none")).check()
    silent = S3Store(with_settings(s3_settings, s3_endpoint="http://127.0.0.1:9"))
    clip = tmp_path / "clip"
    clip.write_bytes(b"frames")
    with pytest.raises(OSError, match="S3"):
        silent.put(KEY, clip, "video/mp4")


def test_the_gateway_passes_the_bytes_on_whole_and_in_ranges(
    s3_settings: StoreSettings, bucket: S3Store, redis_url: str
) -> None:
    app = create_app(GatewaySettings(**(s3_settings.model_dump() | {"links": "gateway", "redis_url": redis_url})))
    signer = LinkSigner(secret_file(s3_settings.link_key), "")
    with TestClient(app) as client:
        link = signer.link(KEY, int(time.time()) + 60)
        whole, part = client.get(link), client.get(link, headers={"Range": "bytes=2-4"})
        beyond, head = client.get(link, headers={"Range": "bytes=99-"}), client.head(link)
        gone = client.get(signer.link("videos/none", int(time.time()) + 60))

    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, b"0123456789", "video/mp4")
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert (beyond.status_code, gone.status_code) == (416, 404)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "10", b"")


def test_the_gateway_redirects_to_a_short_presigned_link_by_setting(
    s3_settings: StoreSettings, bucket: S3Store, redis_url: str
) -> None:
    changes = {"links": "gateway", "link_delivery": "redirect", "redis_url": redis_url}
    app = create_app(GatewaySettings(**(s3_settings.model_dump() | changes)))
    signer = LinkSigner(secret_file(s3_settings.link_key), "")
    with TestClient(app, follow_redirects=False) as client:
        reply = client.get(signer.link(KEY, int(time.time()) + 60))

    assert reply.status_code == 302
    with urllib.request.urlopen(reply.headers["location"]) as followed:
        assert followed.read() == b"0123456789"
