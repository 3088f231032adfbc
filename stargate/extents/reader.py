# SPDX-License-Identifier: Apache-2.0
"""Reading extents: locate, pread, verify. Works in any process; nothing here writes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from crc32c import crc32c

from stargate.errors import DamagedData, InvalidArgument
from stargate.extents import format as ef
from stargate.extents import nodes
from stargate.extents.egroups import EgroupFiles
from stargate.extents.format import ZERO_HASH, Codec, Kind
from stargate.extents.index import Index, Location
from stargate.fs.disk import Disk
from stargate.units import BLOCK_BYTES, MiB

OPENED_MAX = 65536
"""Verified headers kept (some 500 bytes each)."""

DECOMPRESSED_MAX_BYTES = 16 * MiB
NODES_MAX_BYTES = 64 * MiB


@dataclass(slots=True, eq=False)
class _Opened:
    """A located extent whose header was verified."""

    pread: Callable[[int, int], bytes]
    payload_at: int
    location: Location
    crcs: bytes
    raw_blocks: int
    """Whole 4-KiB blocks of a chunk that lie there as they are; 0: it is compressed, or a node."""

    whole_crc: int = -1
    """Checksum of all blocks in one, once they were read and each had its own; -1 before. One call for 64 KiB takes a
    third of what sixteen do.
    """

    def holds(self, data: bytes, first: int, count: int) -> bool:
        """Is `data` what lies in raw blocks [first, first + count)?"""
        if len(data) != count * BLOCK_BYTES:
            return False
        if count != self.raw_blocks or count == 1:
            return ef.check_blocks(data, self.crcs, first)
        if self.whole_crc < 0:
            if not ef.check_blocks(data, self.crcs, 0):
                return False
            self.whole_crc = crc32c(data)
            return True
        return bool(crc32c(data) == self.whole_crc)


class ByteCache:
    """LRU of immutable bytes by hash, bounded in bytes; safe between threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._used = 0
        self._items: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        with self._lock:
            found = self._items.get(key)
            if found is not None:
                self._items.move_to_end(key)
            return found

    def put(self, key: bytes, value: bytes) -> None:
        with self._lock:
            if key in self._items:
                return
            self._items[key] = value
            self._used += len(value)
            while self._used > self._limit:
                self._used -= len(self._items.popitem(last=False)[1])

    def drop(self, key: bytes) -> None:
        with self._lock:
            self._used -= len(self._items.pop(key, b""))


class _naming:
    """Damage inside is damage of this extent."""

    def __init__(self, digest: bytes) -> None:
        self._digest = digest

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, DamagedData) and not isinstance(exc, ef.DamagedExtent):
            raise ef.DamagedExtent(exc.message, exc.detail, digest=self._digest) from exc


class ExtentReader:
    """Verified reads by hash. A wrong or punched place is looked up again once, then it is DamagedData."""

    def __init__(self, disk: Disk, index: Index, *, read_only: bool = True, store_id: bytes | None = None) -> None:
        self.disk = disk
        self.index = index
        self.files = EgroupFiles(disk, read_only=read_only)
        self._store_id = store_id
        self._opened: dict[bytes, _Opened] = {}
        self._opened_lock = threading.Lock()
        self._decompressed = ByteCache(DECOMPRESSED_MAX_BYTES)
        self._nodes = ByteCache(NODES_MAX_BYTES)

    def read_chunk(self, digest: bytes) -> bytes:
        """All bytes of a chunk, CRC verified. The zero hash has no size of its own: InvalidArgument."""
        return self._read_plain(digest, Kind.CHUNK)

    def read_blocks(self, digest: bytes, first_block: int, count: int) -> bytes:
        """`count` 4-KiB blocks of a chunk; of a raw one only these are read and verified."""
        opened = self._opened.get(digest)
        if opened is None:
            if first_block < 0 or count < 1 or (first_block + count) * BLOCK_BYTES > ef.CHUNK_BYTES_MAX:
                raise InvalidArgument(f"blocks {first_block}+{count} are outside of a chunk")
            if digest == ZERO_HASH:
                return bytes(count * BLOCK_BYTES)
            opened = self._open(digest)
        if first_block < 0 or count < 1 or (first_block + count) * BLOCK_BYTES > opened.location.size_bytes:
            raise InvalidArgument(f"blocks {first_block}+{count} are outside of the chunk")
        if opened.raw_blocks:
            try:
                data = opened.pread(count * BLOCK_BYTES, opened.payload_at + first_block * BLOCK_BYTES)
            except OSError:
                data = b""
            if opened.holds(data, first_block, count):
                return data
            self._forget(digest)
        plain = self.read_chunk(digest)
        return plain[first_block * BLOCK_BYTES : (first_block + count) * BLOCK_BYTES]

    def read_node(self, digest: bytes) -> bytes:
        """Payload of a leaf, inner node or root; its own bounds are checked, its place in a tree is the caller's to
        check.
        """
        found = self._nodes.get(digest)
        if found is None:
            found = self._read_plain(digest, None)
            self._nodes.put(digest, found)
        return found

    def raw(self, digest: bytes) -> tuple[int, bytes, int]:
        """(codec, payload, uncompressed bytes) as stored, CRC verified, for shipping."""
        if digest not in self._opened and (whole := self._whole(digest)) is not None:
            return whole
        opened, payload = self._payload(digest)
        return opened.location.codec, payload, opened.location.size_bytes

    def _whole(self, digest: bytes) -> tuple[int, bytes, int] | None:
        """`raw` of what is shipped once: header and payload in one read, nothing remembered. None when anything is not
        as it should be: the reads one by one tell what, and look again where it lies.
        """
        location = None if digest == ZERO_HASH else self._locate(digest)
        if location is None or location.stored_bytes > ef.CHUNK_BYTES_MAX:
            return None
        self._before_read(location)
        end = ef.extent_bytes(location.stored_bytes)
        start = end - location.stored_bytes
        try:
            data = self.files.read(location.egroup, location.offset, end)
            header = self._header(digest, location, data[:start])
        except DamagedData:
            return None
        payload = data[start:]
        return (location.codec, payload, location.size_bytes) if ef.check_blocks(payload, header.crcs, 0) else None

    def kind(self, digest: bytes) -> int:
        """Kind of a present extent. Raises MissingExtent."""
        return self._locate(digest).kind

    def confirm(self, digest: bytes) -> None:
        """The index names a place whose header is that of this extent. Raises DamagedData."""
        self._forget(digest)
        self._open(digest)

    def verify(self, digest: bytes) -> None:
        """Read everything from the disk and compare the full hash. Raises DamagedData."""
        self._forget(digest)
        opened, payload = self._payload(digest)
        location = opened.location
        with _naming(digest):
            plain = ef.decode(location.codec, payload, location.size_bytes)
        if ef.digest_of(location.kind, plain) != digest:
            raise ef.DamagedExtent(f"extent {digest.hex()} does not have its hash", digest=digest)

    def close(self) -> None:
        self.files.close()
        self.index.close()

    def _read_plain(self, digest: bytes, kind: int | None) -> bytes:
        found = self._decompressed.get(digest) if kind == Kind.CHUNK else None
        if found is not None:
            return found
        opened, payload = self._payload(digest)
        location = opened.location
        if (location.kind == Kind.CHUNK) != (kind == Kind.CHUNK):
            raise DamagedData(f"extent {digest.hex()} is of kind {location.kind}")
        with _naming(digest):
            plain = ef.decode(location.codec, payload, location.size_bytes)
            nodes.level_of(location.kind, plain)
        if location.kind == Kind.CHUNK and location.codec != Codec.RAW:
            self._decompressed.put(digest, plain)
        return plain

    def _payload(self, digest: bytes) -> tuple[_Opened, bytes]:
        """Verified stored bytes. A remembered place may have been swept and stored anew, hence the second look-up."""
        remembered = self._opened.get(digest)
        for opened in (remembered, None) if remembered else (None,):
            if opened is None:
                opened = self._open(digest)
            data = self._pread(opened, 0, opened.location.stored_bytes)
            if data is not None and ef.check_blocks(data, opened.crcs, 0):
                return opened, data
            self._forget(digest)
        raise ef.DamagedExtent(f"extent {digest.hex()} is damaged on disk", digest=digest)

    def _pread(self, opened: _Opened, offset: int, length: int) -> bytes | None:
        """Bytes of a payload, or None when they cannot be read in full."""
        try:
            data = opened.pread(length, opened.payload_at + offset)
        except OSError:
            return None
        return data if len(data) == length else None

    def _forget(self, digest: bytes) -> None:
        with self._opened_lock:
            self._opened.pop(digest, None)

    def prune(self) -> None:
        """Let go of some extent groups that the store removed, if there are such."""
        gone = self.files.prune()
        if gone:
            self.forget_egroups(gone)

    def forget_egroups(self, egroups: Iterable[int]) -> None:
        """What was located in these is looked up again."""
        gone = set(egroups)
        with self._opened_lock:
            for digest in [digest for digest, opened in self._opened.items() if opened.location.egroup in gone]:
                del self._opened[digest]

    def drop_cached(self, digest: bytes) -> None:
        """The next read goes to the disk."""
        self._forget(digest)
        self._decompressed.drop(digest)
        self._nodes.drop(digest)

    def _locate(self, digest: bytes) -> Location:
        location = self.index.get(digest)
        if location is None:
            raise ef.MissingExtent(f"extent {digest.hex()} is not in the index", digest=digest)
        return location

    def _open(self, digest: bytes) -> _Opened:
        """Locate an extent and verify its header against the index and the wanted hash."""
        if digest == ZERO_HASH:
            raise InvalidArgument("the zero hash names a hole; its size is the caller's")
        location = self._locate(digest)
        length = ef.HEADER_BYTES + ef.table_bytes(min(location.stored_bytes, ef.CHUNK_BYTES_MAX))
        self._before_read(location)
        with _naming(digest):
            data = self.files.read(location.egroup, location.offset, length)
            header = self._header(digest, location, data)
        plain = header.kind == Kind.CHUNK and header.codec == Codec.RAW
        opened = _Opened(
            self.files.file(location.egroup).pread,
            location.offset + length,
            location,
            header.crcs,
            header.stored_bytes // BLOCK_BYTES if plain else 0,
        )
        with self._opened_lock:
            while len(self._opened) >= OPENED_MAX:
                del self._opened[next(iter(self._opened))]
            self._opened[digest] = opened
        return opened

    def _header(self, digest: bytes, location: Location, data: bytes) -> ef.ExtentHeader:
        """The header in `data`, verified against place, index and the wanted hash. Raises DamagedData."""
        header = ef.parse_header(data, self.store_id, location.egroup, location.offset)
        agreed = (header.kind, header.codec, header.level, header.size_bytes, header.stored_bytes, header.digest)
        if agreed != (
            location.kind,
            location.codec,
            location.level,
            location.size_bytes,
            location.stored_bytes,
            digest,
        ):
            raise ef.MissingExtent(f"the index is wrong about extent {digest.hex()}", digest=digest)
        return header

    def _before_read(self, location: Location) -> None:
        """Hook of the writing store: bytes still held back must be written first."""

    @property
    def store_id(self) -> bytes:
        """Random identity of this store, in every header's checksum. Raises DamagedData when nobody tells it."""
        if self._store_id is None:
            self._store_id = self.files.store_id() or self.index.meta("store_id")
        if self._store_id is None:
            raise DamagedData("no extent group has a readable header")
        return self._store_id
