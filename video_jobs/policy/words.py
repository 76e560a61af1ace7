"""Lists of sensitive words: text files, one word or phrase a line, read anew when they change."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick

from video_jobs.policy.fold import Folded, fold, views

RELOAD_SECONDS = 2.0
Signature = tuple[tuple[str, int, int], ...]

logger = logging.getLogger(__name__)


class Hit(NamedTuple):
    """Which list has which word."""

    list_name: str
    word: str


class Matcher:
    """All lists in one automaton: a text is read once, however many words there are."""

    def __init__(self, lists: Mapping[str, Iterable[str]]) -> None:
        self._hits: list[list[Hit]] = []
        places: dict[str, int] = {}
        for list_name, words in lists.items():
            for word in words:
                letters = Folded(fold(word)).letters
                if not letters:
                    continue
                place = places.setdefault(letters, len(self._hits))
                if place == len(self._hits):
                    self._hits.append([])
                self._hits[place].append(Hit(list_name, word))
        self._automaton = AhoCorasick(list(places)) if places else None

    def __len__(self) -> int:
        return len(self._hits)

    def find(self, text: str, lists: Collection[str] | None = None) -> Hit | None:
        """The first hit of these lists, or of all."""
        if self._automaton is None:
            return None
        for view in views(text):
            for place, start, end in self._automaton.find_matches_as_indexes(view.letters, overlapping=True):
                if view.is_whole(start, end) and (hit := self._of(place, lists)):
                    return hit
        return None

    def _of(self, place: int, lists: Collection[str] | None) -> Hit | None:
        return next((hit for hit in self._hits[place] if lists is None or hit.list_name in lists), None)


class WordLists:
    """The lists of these files, and of the `.txt` files in these folders."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._signature = _signature(self._paths)
        self.matcher = _load(self._signature)

    async def keep_fresh(self, every_s: float = RELOAD_SECONDS) -> None:
        """Read changed files until cancelled; what cannot be read leaves the lists as they were."""
        while True:
            await asyncio.sleep(every_s)
            await self.refresh()

    async def refresh(self) -> bool:
        """Whether anything had changed."""
        try:
            now = await asyncio.to_thread(_signature, self._paths)
            if now == self._signature:
                return False
            matcher = await asyncio.to_thread(_load, now)
        except (OSError, ValueError) as exc:
            logger.error("word lists stay as they were", extra={"error": repr(exc)})
            return False
        self.matcher, self._signature = matcher, now
        logger.info("word lists read", extra={"words": len(matcher), "files": len(now)})
        return True


def _signature(paths: Iterable[Path]) -> Signature:
    files = [file for path in paths for file in (sorted(path.glob("*.txt")) if path.is_dir() else [path])]
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def _load(signature: Signature) -> Matcher:
    lists: dict[str, list[str]] = {}
    for name, _, _ in signature:
        lines = (line.strip() for line in Path(name).read_text("utf-8-sig").splitlines())
        lists.setdefault(Path(name).stem, []).extend(line for line in lines if line and not line.startswith("#"))
    return Matcher(lists)
