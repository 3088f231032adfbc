# SPDX-License-Identifier: Apache-2.0
"""A reading process beside the writing one, over the real index."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stargate.errors import Unavailable
from stargate.extents.index import LmdbIndex
from stargate.extents.store import ExtentStore
from stargate.fs.disk import OsDisk
from tests.extents.helpers import noise

_READER = """
import sys
from stargate.errors import StargateError
from stargate.extents.index import LmdbIndex
from stargate.extents.store import ExtentStore
from stargate.fs.disk import OsDisk
store = ExtentStore(OsDisk(sys.argv[1]), LmdbIndex(sys.argv[1] + "/index", read_only=True), writable=False)
for line in sys.stdin:
    try:
        print(store.read_chunk(bytes.fromhex(line.strip()))[:8].hex(), flush=True)
    except StargateError as exc:
        print(type(exc).__name__, flush=True)
"""


def test_a_reader_process_sees_what_was_flushed_and_nothing_else(tmp_path: Path) -> None:
    store = ExtentStore(OsDisk(tmp_path), LmdbIndex(tmp_path / "index"), writable=True)
    first = store.put_chunk(noise(1))
    store.flush()
    command = [sys.executable, "-c", _READER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as reader:
        assert reader.stdin

        def ask(digest: bytes) -> str:
            assert reader.stdin
            assert reader.stdout
            reader.stdin.write(digest.hex() + "\n")
            return reader.stdout.readline().strip()

        assert ask(first) == noise(1)[:8].hex()
        second = store.put_chunk(noise(2))
        assert ask(second) == "MissingExtent"
        store.flush()
        assert ask(second) == noise(2)[:8].hex()
        store.punch(store.sweep_delete({second}, store.sweep_begin()))
        assert ask(first) == "MissingExtent"
        assert ask(second) == noise(2)[:8].hex()
        reader.stdin.close()
    store.close()


def test_a_reader_finds_no_index_before_the_store_ran(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        LmdbIndex(tmp_path / "index", read_only=True)


def test_a_killed_writer_loses_only_what_it_did_not_flush(tmp_path: Path) -> None:
    script = """
import os, sys
from stargate.extents.index import LmdbIndex
from stargate.extents.store import ExtentStore
from stargate.fs.disk import OsDisk
from tests.extents.helpers import noise
store = ExtentStore(OsDisk(sys.argv[1]), LmdbIndex(sys.argv[1] + "/index"), writable=True)
kept = [store.put_chunk(noise(n)) for n in range(20)]
store.flush()
[store.put_chunk(noise(n)) for n in range(100, 180)]
print(" ".join(h.hex() for h in kept), flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    hashes = [bytes.fromhex(word) for word in done.stdout.split()]
    assert len(hashes) == 20, done.stderr
    store = ExtentStore(OsDisk(tmp_path), LmdbIndex(tmp_path / "index"), writable=True)
    assert store.stats().extents == 20
    again = [store.put_chunk(noise(n)) for n in range(20, 40)]
    store.flush()
    assert [store.read_chunk(h) for h in hashes + again] == [noise(n) for n in range(40)]
    assert store.rebuild() >= 40
    assert [store.read_chunk(h) for h in hashes + again] == [noise(n) for n in range(40)]
    store.close()
