"""Everything of the audit that a process holds, opened from its settings."""

import hmac
from dataclasses import dataclass

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
    return SigningKey(hmac.digest(secret_file(settings.master_key), b"audit signing key", "sha256"))


@dataclass(frozen=True)
class AuditOffice:
    ledger: Ledger
    archive: Archive
    log: AuditLog
    key: SigningKey
    sealer: Sealer

    @property
    def trail(self) -> Trail:
        return Trail(self.archive, self.ledger)

    @property
    def trust(self) -> Trust:
        return Trust([self.key.public], [self.key.mark_key])


def open_audit(settings: AuditSettings, redis: Redis) -> AuditOffice:
    ledger, archive, key = Ledger(redis), open_archive(settings), signing_key(settings)
    terms = SealerTerms(PromptForm(settings.audit_prompts), settings.audit_checkpoint_seconds, settings.audit_backlog)
    return AuditOffice(ledger, archive, AuditLog(ledger), key, Sealer(ledger, archive, key, terms))
