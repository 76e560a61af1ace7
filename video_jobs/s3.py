"""Results in an S3-compatible bucket, and links that the bucket itself answers."""

import contextlib
import errno
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from video_jobs.settings import StoreSettings

PART_BYTES, CHUNK_BYTES = 16 << 20, 1 << 18
ABSENT = ("404", "NoSuchKey", "NotFound")


class Stored(NamedTuple):
    """An object being read: the status and headers a browser needs, and its bytes."""

    status: int
    headers: dict[str, str]
    chunks: Iterator[bytes]


class S3Store:
    def __init__(self, settings: StoreSettings) -> None:
        self._bucket, self._prefix = settings.s3_bucket, settings.s3_prefix
        self._session = boto3.Session(region_name=settings.s3_region)
        self._client = self._open(settings, settings.s3_endpoint)
        # The endpoint inside a cluster is seldom the one that clients reach.
        self._signing_client = self._open(settings, settings.s3_public_endpoint or settings.s3_endpoint)
        self._encryption: dict[str, str] = {"ServerSideEncryption": settings.s3_sse} if settings.s3_sse else {}
        if settings.s3_sse_key_id:
            self._encryption["SSEKMSKeyId"] = settings.s3_sse_key_id
        self._storage_class = settings.s3_storage_class

    def put(self, key: str, source: Path, content_type: str) -> None:
        extra = self._encryption | {"ContentType": content_type}
        # What is written to be read again soon stays in the bucket's own class.
        if self._storage_class and key.startswith("videos/"):
            extra["StorageClass"] = self._storage_class
        transfer = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)
        with as_os_error(key):
            self._client.upload_file(str(source), self._bucket, self._prefix + key, ExtraArgs=extra, Config=transfer)

    def fetch(self, key: str, target: Path) -> None:
        with as_os_error(key):
            self._client.download_file(self._bucket, self._prefix + key, str(target))

    def delete(self, key: str) -> None:
        with as_os_error(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def keys(self, prefix: str) -> Iterator[tuple[str, float]]:
        pages = self._client.get_paginator("list_objects_v2")
        with as_os_error(prefix):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for found in page.get("Contents", []):
                    yield found["Key"].removeprefix(self._prefix), found["LastModified"].timestamp()

    def check(self) -> None:
        try:
            with as_os_error(self._bucket):
                self._client.head_bucket(Bucket=self._bucket)
        except KeyError as exc:
            raise OSError(errno.ENOENT, f"no bucket named {self._bucket}") from exc

    def open(self, key: str, byte_range: str | None) -> Stored:
        """For a gateway that passes the bytes on. An unreadable range is 416; KeyError if there is no such object."""
        wanted = {"Bucket": self._bucket, "Key": self._prefix + key} | ({"Range": byte_range} if byte_range else {})
        try:
            with as_os_error(key):
                reply = self._client.get_object(**wanted)
        except RangeRefused as exc:
            return Stored(416, {"Content-Range": f"bytes */{exc.size}"}, iter(()))
        headers = {"Content-Length": str(reply["ContentLength"]), "ETag": reply["ETag"], "Accept-Ranges": "bytes"}
        if "ContentRange" in reply:
            headers["Content-Range"] = reply["ContentRange"]
        return Stored(206 if "ContentRange" in reply else 200, headers, reply["Body"].iter_chunks(CHUNK_BYTES))

    def link(self, key: str, expires: int) -> str:
        """Presigned: the bucket answers it."""
        wanted = {"Bucket": self._bucket, "Key": self._prefix + key}
        seconds = max(1, expires - int(time.time()))
        return str(self._signing_client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=seconds))

    @property
    def has_lasting_credentials(self) -> bool:
        """A presigned link dies with the temporary credentials that signed it."""
        found = self._session.get_credentials()
        return found is not None and found.get_frozen_credentials().token is None

    def _open(self, settings: StoreSettings, endpoint: str | None) -> Any:
        return self._session.client(
            "s3",
            endpoint_url=endpoint,
            verify=str(settings.s3_ca_bundle) if settings.s3_ca_bundle else None,
            config=Config(
                signature_version="s3v4",
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "max_attempts": 3},
                s3={"addressing_style": "path" if settings.s3_path_style else "auto"},
                # The newer default adds checksum trailers that many S3-compatible stores refuse.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


class RangeRefused(Exception):
    """The range lies outside the object."""

    def __init__(self, size: str) -> None:
        super().__init__(self.__doc__)
        self.size = size


@contextlib.contextmanager
def as_os_error(key: str) -> Iterator[None]:
    """The library's errors as what a folder would raise: KeyError for an absent object, else OSError."""
    try:
        yield
    except ClientError as exc:
        code = exc.response.get("Error", {}).get("Code", "")
        if code in ABSENT:
            raise KeyError(key) from exc
        if code == "InvalidRange":
            raise RangeRefused(str(exc.response["Error"].get("ActualObjectSize", "*"))) from exc
        raise OSError(errno.EIO, f"S3 answered {code}: {exc.response.get('Error', {}).get('Message', '')}") from exc
    except (BotoCoreError, Boto3Error) as exc:
        raise OSError(errno.EIO, f"S3: {exc}") from exc
