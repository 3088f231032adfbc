# SPDX-License-Identifier: Apache-2.0
"""What the drain and the C library hold on to."""

from __future__ import annotations

import mmap
import platform
import subprocess
import sys
import weakref
from types import SimpleNamespace
from typing import cast

import pytest

from stargate.memory import ARENAS_MAX
from stargate.oplog.reader import LogReader
from stargate.store.window import SPAN_BYTES, WindowBytes
from stargate.units import MiB

THREADS = 8
ARENAS = f"""
import ctypes, threading
from stargate.memory import few_arenas
few_arenas()
libc = ctypes.CDLL(None)
together = threading.Barrier({THREADS})
def take():
    libc.free(ctypes.c_void_p(libc.malloc(5000)))
    together.wait()
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
threads = [threading.Thread(target=take) for _ in range({THREADS})]
for thread in threads: thread.start()
for thread in threads: thread.join()
out = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


class _Nothing:
    """A log of zeros."""

    info = SimpleNamespace(segment_bytes=64 * MiB)

    def fill(self, position: int, target: memoryview) -> None:
        """They are there already."""


def test_it_never_holds_two_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[mmap.mmap]] = []
    alive_beside: list[int] = []
    real = mmap.mmap

    def counted(*args: int) -> mmap.mmap:
        alive_beside.append(sum(ref() is not None for ref in made))
        found = real(*args)
        made.append(weakref.ref(found))
        return found

    monkeypatch.setattr(mmap, "mmap", counted)
    window = WindowBytes(cast(LogReader, _Nothing()))
    for size_bytes in (MiB, SPAN_BYTES, SPAN_BYTES + MiB, SPAN_BYTES + 3 * MiB, MiB):
        window.load(0, size_bytes)
    assert alive_beside == [0, 0, 0]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_it_shares_arenas_between_threads() -> None:
    told = subprocess.run([sys.executable, "-c", ARENAS], capture_output=True, text=True, check=True).stdout
    assert 1 <= told.count("<heap nr=") <= ARENAS_MAX
