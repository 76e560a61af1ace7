"""The two stores under one suite: a folder, and a bucket of an S3 server on this machine."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from video_jobs.results import ResultStore, open_results
from video_jobs.settings import StoreSettings


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_settings(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreSettings:
    """An empty bucket, reached with lasting credentials from the usual chain."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    bucket = f"videos-{secrets.token_hex(4)}"
    boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
    return StoreSettings(
        store="s3",
        s3_bucket=bucket,
        s3_prefix="team/",
        s3_endpoint=s3_endpoint,
        s3_path_style=True,
        state=tmp_path / "state",
        public_url="http://gateway.example",
    )


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ResultStore:
    if request.param == "folder":
        return open_results(StoreSettings(state=tmp_path / "state"))
    return open_results(request.getfixturevalue("s3_settings"))
