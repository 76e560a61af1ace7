"""Text as it is compared with lists: width, case, accents, look-alikes and what stands between letters do not matter.

A word of letters counts only as whole words of the text, so that `class exit` holds no `sex`; letters spelled out apart
(`s e x`, `s.e-x`) are put together again. Chinese characters are words by themselves: theirs match anywhere.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate

from video_jobs.policy.lookalikes import LEET, LOOKALIKES

_HAN = "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(rf"[{_HAN}]|[0-9]+|[^\W\d_{_HAN}]+")
# A letter or two between Chinese characters parts no word there.
_FILLER = re.compile(rf"(?<=[{_HAN}])[\W_]*[a-z0-9]{{1,2}}[\W_]*(?=[{_HAN}])")
_LEET_TABLES = [{ord(sign): letter for sign, letter in table.items()} for table in LEET]
_DROPPED = ("Mn", "Me", "Cf", "Cc", "Cs", "Co")
MOST_REMEMBERED = 20_000


class _Letters(dict[int, str]):
    """What becomes of each letter, found out once."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        is_space = letter.isspace()
        dropped = not is_space and unicodedata.category(letter) in _DROPPED
        found = " " if is_space else "" if dropped else LOOKALIKES.get(letter, letter)
        if len(self) < MOST_REMEMBERED:
            self[code] = found
        return found


_LETTERS = _Letters()


class Folded:
    """Letters without what lies between them, and where words begin and end."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = _TOKEN.findall(text)
        self.letters = "".join(self._tokens)

    @cached_property
    def _edges(self) -> set[int]:
        """Only asked for when something was found. A word's end is where the next one begins."""
        return set(accumulate(map(len, self._tokens), initial=0))

    def is_whole(self, start: int, end: int) -> bool:
        return start in self._edges and end in self._edges


def fold(text: str) -> str:
    """One spelling for all that look alike; what parts words stays."""
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFKC", plain.translate(_LETTERS)).casefold()


def views(text: str) -> Iterator[Folded]:
    """The text as it may be meant: as it stands, with digits and signs for letters, without letters as filling."""
    folded = fold(text)
    yield Folded(folded)
    if _FILLER.search(folded):
        yield Folded(_FILLER.sub("", folded))
    if any(sign in folded for sign in LEET[0]):
        for table in _LEET_TABLES:
            yield Folded(folded.translate(table))
