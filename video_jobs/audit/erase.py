"""Erase what the audit holds about one end user. The records stay, and the chain with them."""

import asyncio

from video_jobs.audit.archive import Archive
from video_jobs.audit.content import Content
from video_jobs.audit.ledger import SLICE, Erasure, Ledger


async def erase_content(ledger: Ledger, archive: Archive, wanted: Erasure) -> None:
    """Done by the sealer between exports, so that no object is written behind the eraser's back."""
    state, erased = await ledger.state(), 0
    for start in range(state.exported + 1, state.sealed + 1, SLICE):
        contents = await ledger.contents(range(start, min(start + SLICE, state.sealed + 1)))
        seqs = [content.seq for content in contents if _is_of(content, wanted)]
        await ledger.forget(seqs)
        erased += len(seqs)
    erased += await asyncio.to_thread(archive.erase, wanted.tenant, wanted.user_id)
    who = {"tenant": wanted.tenant, "user_id": wanted.user_id, "by": wanted.by, "erasure": wanted.id}
    await ledger.note({"event": "content erased", "detail": f"{erased} records"} | who)
    await ledger.erased(wanted)


def _is_of(content: Content, wanted: Erasure) -> bool:
    return (content.tenant, content.user_id) == (wanted.tenant, wanted.user_id)
