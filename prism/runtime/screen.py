# SPDX-License-Identifier: Apache-2.0
"""What the operator sees: one line per finished step, with its time; messages when something happens later."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


class Screen:
    """Prints lines. Never redraws: the same text is right on a terminal, in a log and in CI."""

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output or sys.stdout
        self._tick = "✓" if _can_print(self._output, "✓") else "ok"
        self._cross = "✗" if _can_print(self._output, "✗") else "FAILED"

    def say(self, text: str = "") -> None:
        try:
            print(text, file=self._output, flush=True)
        except OSError:  # the terminal went away; stopping is SIGHUP's business
            return

    def done(self, site: str, step: str, seconds: float, detail: str = "") -> None:
        self.say(f"  {site:<6} {self._tick} {step:<22} {seconds:6.1f} s{'  ' + detail if detail else ''}")

    def failed(self, site: str, step: str, detail: str) -> None:
        self.say(f"  {site:<6} {self._cross} {step:<22} {detail}")

    @contextmanager
    def step(self, site: str, step: str) -> Iterator[Callable[[str], None]]:
        """Time the block and tick it off; the yielded function sets a detail for the line."""
        started = time.monotonic()
        details: list[str] = []
        yield details.append
        self.done(site, step, time.monotonic() - started, " ".join(details))


def _can_print(output: TextIO, text: str) -> bool:
    try:
        text.encode(getattr(output, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True
