"""The chain: each record's hash covers all before it; each line carries a keyed mark; checkpoints are signed."""

import hashlib
import hmac
import json
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from video_jobs.audit.content import to_json
from video_jobs.job import Frozen

GENESIS = bytes(32)
MARK_BYTES = 16
# A line is {"chain":"64 hex","mark":"32 hex","record":{…}}: its parts lie at fixed places.
_OPEN, _MARK, _RECORD = b'{"chain":"', b'","mark":"', b'","record":'
_MARK_AT = len(_OPEN) + 64
_RECORD_AT = _MARK_AT + len(_MARK) + 2 * MARK_BYTES


class Link(NamedTuple):
    """One sealed line, taken apart without parsing the record."""

    chain: str
    mark: str
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
    if line[: len(_OPEN)] != _OPEN or line[_RECORD_AT : _RECORD_AT + len(_RECORD)] != _RECORD or line[-1:] != b"}":
        return None
    if line[_MARK_AT : _MARK_AT + len(_MARK)] != _MARK:
        return None
    chain, mark = line[len(_OPEN) : _MARK_AT], line[_MARK_AT + len(_MARK) : _RECORD_AT]
    if not chain.isalnum() or not mark.isalnum():
        return None
    return Link(chain.decode(), mark.decode(), line[_RECORD_AT + len(_RECORD) : -1])


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
        head = _OPEN + value.hex().encode() + _MARK + mark_of(self.mark_key, value).encode()
        return head + _RECORD + raw + b"}", value

    def sign(self, chain_id: str, seq: int, chain: str, at_ms: int) -> SignedCheckpoint:
        checkpoint = Checkpoint(chain_id=chain_id, seq=seq, chain=chain, at_ms=at_ms, key=key_name(self.public))
        signature = self._private.sign(_signed_bytes(checkpoint))
        return SignedCheckpoint(checkpoint=checkpoint, signature=signature.hex())


def mark_of(mark_key: bytes, chain: bytes) -> str:
    return hmac.digest(mark_key, chain, "sha256")[:MARK_BYTES].hex()


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
