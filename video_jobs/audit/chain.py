"""The chain: each record's hash covers all before it; each line carries a keyed mark; checkpoints are signed."""

import hashlib
import hmac
import json
import re
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from video_jobs.audit.content import to_json
from video_jobs.job import Frozen

GENESIS = bytes(32)
MARK_BYTES = 16
# {"chain":"64 hex","mark":"32 hex","record":{…}}: taken apart without parsing the record.
LINE = re.compile(rb'\{"chain":"([0-9a-f]{64})","mark":"([0-9a-f]{32})","record":(\{.*\})\}', re.DOTALL)


class Link(NamedTuple):
    """One sealed line, taken apart without parsing the record."""

    chain: bytes
    mark: bytes
    record: bytes


class Checkpoint(Frozen):
    """The sealer's word that the chain stood here at this time."""

    chain_id: str
    seq: int
    chain: str
    at_ms: int
    key: str


class SignedCheckpoint(Frozen):
    checkpoint: Checkpoint
    signature: str

    def line(self) -> bytes:
        return to_json(self.model_dump()).encode()


def step(before: bytes, record: bytes) -> bytes:
    return hashlib.sha256(before + hashlib.sha256(record).digest()).digest()


def is_checkpoint(line: bytes) -> bool:
    return line.startswith(b'{"checkpoint":')


def read_line(line: bytes) -> Link | None:
    """None for what no sealer wrote."""
    found = LINE.fullmatch(line)
    return Link(*found.groups()) if found else None


class SigningKey:
    """Signs checkpoints, and marks each line so that even a chain computed anew shows where it was changed."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw()
        self.mark_key = hmac.digest(seed, b"audit line marks", "sha256")
        self.prompt_key = hmac.digest(seed, b"audit prompt hashes", "sha256")

    def seal(self, before: bytes, record: dict[str, Any]) -> tuple[bytes, bytes]:
        """The line of a record, and the chain's value after it."""
        raw = to_json(record).encode(errors="replace")
        value = step(before, raw)
        parts = (value.hex().encode(), mark_of(self.mark_key, value), raw)
        return b'{"chain":"%s","mark":"%s","record":%s}' % parts, value

    def sign(self, chain_id: str, seq: int, chain: str, at_ms: int) -> SignedCheckpoint:
        checkpoint = Checkpoint(chain_id=chain_id, seq=seq, chain=chain, at_ms=at_ms, key=key_name(self.public))
        signature = self._private.sign(_signed_bytes(checkpoint))
        return SignedCheckpoint(checkpoint=checkpoint, signature=signature.hex())


def mark_of(mark_key: bytes, chain: bytes) -> bytes:
    return hashlib.blake2b(chain, digest_size=MARK_BYTES, key=mark_key).hexdigest().encode()


def key_name(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]


def read_checkpoint(line: bytes) -> SignedCheckpoint:
    return SignedCheckpoint.model_validate(json.loads(line))


def is_signed(signed: SignedCheckpoint, public_keys: list[bytes]) -> bool:
    """By any of these keys: they are rolled now and then."""
    for public in public_keys:
        if key_name(public) != signed.checkpoint.key:
            continue
        try:
            raw = bytes.fromhex(signed.signature)
            Ed25519PublicKey.from_public_bytes(public).verify(raw, _signed_bytes(signed.checkpoint))
        except (InvalidSignature, ValueError):
            continue
        return True
    return False


def _signed_bytes(checkpoint: Checkpoint) -> bytes:
    return b"cogvideox audit checkpoint\n" + to_json(checkpoint.model_dump(), sort_keys=True).encode()
