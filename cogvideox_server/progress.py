"""A progress bar on a terminal; elsewhere one line now and then."""

import sys
import time

WIDTH, EVERY_SECONDS = 30, 10.0


class Bar:
    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._told = ""
        self._told_at = 0.0

    def show(self, share: float, text: str) -> None:
        """`share` from 0 to 1."""
        full = round(WIDTH * share)
        if self._is_terminal:
            print(
                f"\r\033[K[{'#' * full}{'.' * (WIDTH - full)}] {share:4.0%}  {text}",
                end="",
                file=sys.stderr,
                flush=True,
            )
        elif text != self._told or time.monotonic() - self._told_at > EVERY_SECONDS:
            print(f"{share:4.0%}  {text}", file=sys.stderr, flush=True)
            self._told, self._told_at = text, time.monotonic()

    def close(self) -> None:
        if self._is_terminal:
            print(file=sys.stderr)
