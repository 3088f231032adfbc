# SPDX-License-Identifier: Apache-2.0
"""What the C library may keep of memory that was given back."""

from __future__ import annotations

import contextlib
import ctypes

ARENAS_MAX = 2
_M_ARENA_MAX = -8  # of glibc's malloc.h


def few_arenas() -> None:
    """Before the first thread. By default glibc gives up to eight arenas per core to the threads, and each keeps what
    its busiest moment took: connections that come and go would multiply that. Another C library: nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS_MAX)
