import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from arq.connections import ArqRedis

from video_jobs.audit.archive import Archive
from video_jobs.audit.chain import SigningKey
from video_jobs.audit.content import PromptForm
from video_jobs.audit.ledger import Ledger
from video_jobs.audit.sealer import Sealer, SealerTerms
from video_jobs.results import FolderStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def ledger(redis_client: ArqRedis) -> Ledger:
    return Ledger(redis_client)


@pytest.fixture
def archive(folder: Path) -> Archive:
    return Archive(FolderStore(folder))


@pytest.fixture
def key() -> SigningKey:
    return SigningKey(secrets.token_bytes(32))


@pytest.fixture
def new_sealer(ledger: Ledger, archive: Archive, key: SigningKey) -> Callable[..., Sealer]:
    def make(prompts: PromptForm = PromptForm.KEPT, checkpoint_s: float = 60, backlog: int = 200_000) -> Sealer:
        return Sealer(ledger, archive, key, SealerTerms(prompts, checkpoint_s, backlog))

    return make


@pytest.fixture
def seal(new_sealer: Callable[..., Sealer]) -> Callable[..., Awaitable[None]]:
    """Seal all there is, sign it, and let every due export end."""
    sealers: list[Sealer] = []

    async def run(**terms: object) -> None:
        sealers[:] = sealers or [new_sealer(checkpoint_s=0, **terms)]
        await sealers[0].work()
        await sealers[0].settle()

    return run
