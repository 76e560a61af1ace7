"""Everything of the audit that a process holds, opened from its settings."""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from video_jobs.audit.archive import Archive, open_archive
from video_jobs.audit.chain import SigningKey
from video_jobs.audit.content import PromptForm
from video_jobs.audit.ledger import Ledger
from video_jobs.audit.log import AuditLog
from video_jobs.audit.reader import Trail
from video_jobs.audit.sealer import Sealer, SealerTerms
from video_jobs.audit.verify import Trust
from video_jobs.links import secret_file
from video_jobs.settings import AuditSettings


def signing_key(settings: AuditSettings) -> SigningKey:
    """The same for every gateway, because all of them have the master key."""
    if settings.audit_key_file is not None:
        return SigningKey(secret_file(settings.audit_key_file))
    return _derived(secret_file(settings.master_key))


def older_keys(paths: Iterable[Path]) -> list[SigningKey]:
    """Each file as what it may have been: the audit's own key, or the master key that it was derived from."""
    held = [secret_file(path) for path in paths]
    return [key for secret in held for key in (SigningKey(secret), _derived(secret))]


def _derived(master: bytes) -> SigningKey:
    return SigningKey(hmac.digest(master, b"audit signing key", "sha256"))


@dataclass(frozen=True)
class AuditOffice:
    ledger: Ledger
    archive: Archive
    log: AuditLog
    key: SigningKey
    sealer: Sealer
    older: Sequence[SigningKey] = ()

    @property
    def trail(self) -> Trail:
        return Trail(self.archive, self.ledger)

    @property
    def trust(self) -> Trust:
        known = [self.key, *self.older]
        return Trust([key.public for key in known], [key.mark_key for key in known])


def open_audit(settings: AuditSettings, redis: Redis) -> AuditOffice:
    ledger, archive, key = Ledger(redis), open_archive(settings), signing_key(settings)
    terms = SealerTerms(PromptForm(settings.audit_prompts), settings.audit_checkpoint_seconds, settings.audit_backlog)
    older = older_keys(settings.old_key_files)
    return AuditOffice(ledger, archive, AuditLog(ledger), key, Sealer(ledger, archive, key, terms), older)
