# SPDX-License-Identifier: Apache-2.0
"""What a crash leaves: a disk and an index that tell of each change before it happens, and give states to open."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from random import Random
from typing import Any

from stargate.clock import Clock
from stargate.extents.index import Change, MemoryIndex
from stargate.fs.memdisk import Op
from stargate.fs.survival import Way
from stargate.units import KiB
from tests.engine.harness import CutDisk, Site

CHANGING = frozenset({"pwritev", "fdatasync", "truncate", "punch", "mkdir", "rename", "unlink", "sync_dir", "open"})
INDEX_LOST = 0.1
"""How often a power cut takes the index, which the store must then rebuild."""

Watch = Callable[[Op], None]


class WatchedDisk(CutDisk):
    """`watch` is called before each call that may change something."""

    watch: Watch | None = None

    def _call(self, op: Op) -> bool:
        if self.watch is not None and op.name in CHANGING:
            self.watch(op)
        self.trace.clear()
        return super()._call(op)

    def crash(self, rng: Random, way: Way | None = None, *, share: bool = True) -> WatchedDisk:
        after = WatchedDisk(capacity_bytes=self.capacity_bytes)
        after.__dict__.update(super(CutDisk, self).crash(rng, way, share=share).__dict__)
        return after


class WatchedIndex(MemoryIndex):
    """The index as LMDB keeps it: transactions are whole and durable, in order. `durable` False: a mutant's, without
    its fsync, of which the last transactions may vanish."""

    durable = True

    def __init__(self) -> None:
        super().__init__()
        self.watch: Watch | None = None
        self.version = 0
        self._earlier: list[tuple[dict[bytes, Any], set[Any], dict[str, bytes]]] = []

    def commit(self, change: Change) -> None:
        self._before("index")
        super().commit(change)

    def clear(self) -> None:
        self._before("index-clear")
        super().clear()

    def _before(self, name: str) -> None:
        if self.watch is not None:
            self.watch(Op(name, "index"))
        self.version += 1
        if not self.durable:
            self._earlier = [*self._earlier[-3:], (dict(self._extents), set(self._freed), dict(self._meta))]

    def crash(self, rng: Random) -> WatchedIndex:
        """What a power cut leaves of it."""
        after = WatchedIndex()
        if rng.random() < INDEX_LOST:
            return after
        kept = (self._extents, self._freed, self._meta)
        if self._earlier:
            kept = rng.choice([kept, *self._earlier])
        after._extents, after._freed, after._meta = dict(kept[0]), set(kept[1]), dict(kept[2])
        return after

    def content(self) -> tuple[object, ...]:
        return sorted(self._extents.items()), sorted(self._freed), sorted(self._meta.items())


class StillClock(Clock):
    """Time stands: nothing here depends on it."""

    def monotonic(self) -> float:
        return 1000.0

    def now(self) -> float:
        return 1_700_000_000.0

    def sleep(self, seconds: float) -> None:
        """Over at once."""


class CrashSite(Site):
    """A site with a small log and small files, on a watched disk."""

    segment_bytes = 128 * KiB
    cap_bytes = 1024 * KiB
    region_bytes = 128 * KiB
    egroup_bytes = 256 * KiB
    disk: WatchedDisk
    index: WatchedIndex

    def __init__(self, rng: Random, disk: WatchedDisk | None = None, index: WatchedIndex | None = None) -> None:
        super().__init__(rng, disk=disk or WatchedDisk(), clock=StillClock())
        self.index = index or WatchedIndex()

    def watch(self, watch: Watch) -> None:
        self.disk.watch = self.index.watch = watch

    def connect(self) -> None:
        """A front that lacks what a checkpoint forgot is told to start anew."""
        store = self.store
        if self.front is not None and store is not None:
            recent = store.hub._recent
            if self.front.link._told < (recent[0]["n"] if recent else store.hub.state.n + 1) - 1:
                self.kill_front()
                self.start_front()
        super().connect()

    def power_cut(self) -> None:
        self.kill_front()
        self.kill_store()
        watch = self.disk.watch
        self.disk, self.index = self.disk.crash(self.rng), self.index.crash(self.rng)
        self.disk.watch = self.index.watch = watch

    def crashed(self, rng: Random, way: Way | None) -> CrashSite:
        """A site that is not started yet, on what a power cut at this moment leaves."""
        return CrashSite(rng, self.disk.crash(rng, way), self.index.crash(rng))


class Digests:
    """Tells states apart. Files that disks share are hashed once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bytearray, bytes]] = {}

    def of(self, site: CrashSite) -> bytes:
        """Of a site just crashed: everything on its disk, and its index."""
        whole = blake2b(repr(site.index.content()).encode(), digest_size=16)
        for path, node in sorted(site.disk._names.items()):
            known, digest = self._known.get(path, (None, b""))
            if known is not node.durable:
                digest = blake2b(node.durable, digest_size=16).digest()
                if node.shared:
                    self._known[path] = node.durable, digest
            whole.update(path.encode() + b"\0" + digest)
        return whole.digest()


class Entropy:
    """What the engine takes from the operating system's randomness, from a seed, so that a run repeats exactly."""

    def __init__(self, seed: str) -> None:
        self._rng = Random(seed)

    @contextmanager
    def instead(self) -> Iterator[None]:
        was = os.urandom, secrets.token_bytes
        os.urandom = secrets.token_bytes = lambda count: self._rng.randbytes(count)  # type: ignore[assignment,misc]
        try:
            yield
        finally:
            os.urandom, secrets.token_bytes = was  # type: ignore[misc]
