"""The audit as it lies in the store: hour by hour, compressed JSON lines, personal content in objects of its own.

audit/{chain}/records/{first}-{last}-{hour}.jsonl.gz     lines and checkpoints, never changed again
audit/{chain}/content/{end user}/{first}.jsonl.gz        may be deleted; the chain still holds
audit/{chain}/head.json                                  the newest checkpoint
"""

import gzip
import hashlib
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from video_jobs.audit.chain import SignedCheckpoint, read_checkpoint
from video_jobs.audit.content import Content
from video_jobs.results import ResultStore, open_results
from video_jobs.settings import AuditSettings

ROOT = "audit/"
DAMAGE = (gzip.BadGzipFile, zlib.error, EOFError, ValueError)


class Segment(NamedTuple):
    """One exported object of records."""

    chain_id: str
    first: int
    last: int
    hour: str
    key: str

    @property
    def starts_ms(self) -> int:
        return int(datetime.strptime(self.hour, "%Y%m%dT%H").replace(tzinfo=UTC).timestamp() * 1000)


class DamagedContent(OSError):
    """Nothing can be cut out of objects that cannot be read: restore them, or delete them whole."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__(f"{self.__doc__} {', '.join(keys)}")


class Archive:
    """Blocks, like the store under it: called from threads."""

    def __init__(self, store: ResultStore) -> None:
        self._store = store

    def chains(self) -> list[str]:
        return sorted({key.split("/")[1] for key, _ in self._store.keys(ROOT)})

    def segments(self, chain_id: str) -> list[Segment]:
        found = (_segment(chain_id, key) for key, _ in self._store.keys(f"{ROOT}{chain_id}/records/"))
        return sorted(segment for segment in found if segment)

    def lines(self, segment: Segment) -> list[bytes]:
        return self._get(segment.key).splitlines()

    def contents(self, segment: Segment, tenant: str) -> dict[int, Content] | None:
        """What is still kept of this tenant's content, by record; None if it cannot be read any more."""
        try:
            kept = self._contents(_content_key(segment.chain_id, tenant, segment.first))
        except KeyError:
            return {}
        except DAMAGE:
            return None
        return {content.seq: content for content in kept}

    def put_segment(self, segment: Segment, lines: list[bytes], contents: Iterable[Content]) -> None:
        """The content first: a segment that is there is whole."""
        by_tenant: dict[str, list[Content]] = defaultdict(list)
        for content in contents:
            by_tenant[content.tenant].append(content)
        for tenant, kept in by_tenant.items():
            self._put_contents(_content_key(segment.chain_id, tenant, segment.first), kept)
        self._put(segment.key, lines)

    def put_head(self, head: SignedCheckpoint) -> None:
        self._put(f"{ROOT}{head.checkpoint.chain_id}/head.json", [head.line()])

    def head(self, chain_id: str) -> SignedCheckpoint | None:
        try:
            return read_checkpoint(self._get(f"{ROOT}{chain_id}/head.json"))
        except (KeyError, ValueError):
            return None

    def erase(self, tenant: str, user_id: str) -> int:
        """Cut this end user's content out of every object that has some; how many records lost theirs."""
        erased, damaged = 0, []
        for chain_id in self.chains():
            folder = _content_key(chain_id, tenant, 0).rpartition("/")[0]
            for key in [key for key, _ in self._store.keys(folder + "/")]:
                try:
                    erased += self._erase(key, user_id)
                except DAMAGE:
                    damaged.append(key)
        if damaged:
            raise DamagedContent(damaged)
        return erased

    def _erase(self, key: str, user_id: str) -> int:
        held = self._contents(key)
        kept = [content for content in held if content.user_id != user_id]
        if not kept:
            self._store.delete(key)
        elif len(kept) < len(held):
            self._put_contents(key, kept)
        return len(held) - len(kept)

    def _contents(self, key: str) -> list[Content]:
        return [Content.model_validate_json(line) for line in self._get(key).splitlines()]

    def _put_contents(self, key: str, contents: Iterable[Content]) -> None:
        self._put(key, [content.model_dump_json().encode() for content in contents])

    def _put(self, key: str, lines: list[bytes]) -> None:
        raw = b"\n".join(lines) + b"\n"
        is_packed = key.endswith(".gz")
        with tempfile.NamedTemporaryFile() as file:
            # Without a time inside, the same lines are the same object.
            file.write(gzip.compress(raw, mtime=0) if is_packed else raw)
            file.flush()
            self._store.put(key, Path(file.name), "application/gzip" if is_packed else "application/json")

    def _get(self, key: str) -> bytes:
        with tempfile.NamedTemporaryFile() as file:
            self._store.fetch(key, Path(file.name))
            held = Path(file.name).read_bytes()
        return gzip.decompress(held) if key.endswith(".gz") else held


def open_archive(settings: AuditSettings) -> Archive:
    """In the results' store, or in a bucket that only auditors may read."""
    own = {"s3_bucket": settings.audit_s3_bucket} if settings.audit_s3_bucket else {}
    return Archive(open_results(settings.model_copy(update=own)))


def new_segment(chain_id: str, first: int, last: int, at_ms: int) -> Segment:
    hour = hour_of(at_ms)
    return Segment(chain_id, first, last, hour, f"{ROOT}{chain_id}/records/{first:012d}-{last:012d}-{hour}.jsonl.gz")


def hour_of(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y%m%dT%H}"


def at_ms_of(record: bytes) -> int:
    """Of a record as the sealer writes it: the number first, then the time."""
    return int(record.split(b",", 2)[1].removeprefix(b'"at_ms":'))


def _segment(chain_id: str, key: str) -> Segment | None:
    parts = PurePosixPath(key).name.removesuffix(".jsonl.gz").split("-")
    if len(parts) != 3 or not (parts[0].isdigit() and parts[1].isdigit()):
        return None
    return Segment(chain_id, int(parts[0]), int(parts[1]), parts[2], key)


def _content_key(chain_id: str, tenant: str, first: int) -> str:
    # What callers and operators name never shapes a key.
    return f"{ROOT}{chain_id}/content/{hashlib.sha256(tenant.encode()).hexdigest()[:32]}/{first:012d}.jsonl.gz"
