# SPDX-License-Identifier: Apache-2.0
"""Back-pressure inside the store (docs/design/0009): bulk work rests between its steps while guests fill the log, for
the drain shares the interpreter with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PRESSED_FROM = 0.45
"""Fill of the log."""

REST_STEPS = 4.0
REST_SECONDS_MAX = 0.25


def rest_seconds(fill: float, step_seconds: float) -> float:
    """After a step that took so long. Grows with the fill, up to four steps' length, and ends: work that stood still
    would fill the hot tier, or the storage, instead.
    """
    pressed = min(1.0, max(0.0, (fill - PRESSED_FROM) / (1.0 - PRESSED_FROM)))
    return min(REST_SECONDS_MAX, REST_STEPS * pressed * step_seconds)


class Rest:
    """Of one thread: `begin` before the first step, called after each. `wait` sleeps so many seconds, or less when the
    process ends; `urgent` says that nothing may wait.
    """

    def __init__(self, fill: Callable[[], float], urgent: Callable[[], bool], wait: Callable[[float], object]) -> None:
        self._fill = fill
        self._urgent = urgent
        self._wait = wait
        self._began = 0.0

    def begin(self) -> None:
        self._began = time.monotonic()

    def __call__(self) -> None:
        seconds = rest_seconds(self._fill(), time.monotonic() - self._began)
        if seconds and not self._urgent():
            self._wait(seconds)
        else:
            time.sleep(0)
        self.begin()
