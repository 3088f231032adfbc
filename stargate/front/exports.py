# SPDX-License-Identifier: Apache-2.0
"""What NBD clients open: vDisks by name or uuid, and any snapshot's disk read-only as `snapshot:<uuid>:<disk uuid>`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stargate.catalog.state import VDisk
from stargate.content import SHARD_BITS
from stargate.errors import ExportDown, NotFound, ReadOnly, StargateError
from stargate.extents.format import DamagedExtent
from stargate.front.damage import LostHead
from stargate.front.engine import ZEROS, FrontEngine
from stargate.front.layers import Kind, Layer, walk
from stargate.front.unsynced import Unsynced
from stargate.fs.disk import Buffer
from stargate.nbd.exports import ConnInfo, Export
from stargate.units import BLOCK_BYTES

GATE_SECONDS = 30.0
"""How long a gated vDisk stays read-only after a start when nobody answers whether it is active elsewhere."""

STATE_HOLE_ZERO = 3
EXTENT_BLOCKS_MAX = 1 << 20
EXTENT_LOOKS_MAX = 2048
"""Work for one answer, in steps of less than a microsecond of the loop; the client asks on behind what it is told."""
UNTOUCHED_LOOKS = 64


class VersionExport:
    """Reads of one layer; the base of both kinds. Any alignment."""

    def __init__(self, engine: FrontEngine, name: str, layer: Layer, size_bytes: int, description: str) -> None:
        self._engine = engine
        self._layer = layer
        self.name = name
        self.size_bytes = size_bytes
        self.description = description

    @property
    def read_only(self) -> bool:
        return True

    @property
    def answers_when_durable(self) -> bool:
        return False

    def layer(self) -> Layer:
        return self._layer

    def write(self, offset: int, data: memoryview) -> None:
        raise ReadOnly(f"{self.name} is a snapshot; clone it to write")

    def zero(self, offset: int, length: int, punch: bool) -> None:
        raise ReadOnly(f"{self.name} is a snapshot; clone it to write")

    def pace(self) -> float:
        return 0.0

    def read(self, offset: int, length: int) -> Sequence[Buffer]:
        if not (offset | length) & (BLOCK_BYTES - 1):
            return self._engine.read_blocks(self.layer(), offset // BLOCK_BYTES, length // BLOCK_BYTES)
        first, last = offset // BLOCK_BYTES, (offset + length - 1) // BLOCK_BYTES
        parts = self._engine.read_blocks(self.layer(), first, last - first + 1)
        skip, tail = offset - first * BLOCK_BYTES, (last + 1) * BLOCK_BYTES - offset - length
        if skip:
            parts[0] = memoryview(parts[0])[skip:]
        if tail:
            parts[-1] = memoryview(parts[-1])[:-tail]
        return parts

    def read_later(self, offset: int, length: int) -> Callable[[], Sequence[Buffer]] | None:
        if (offset | length) & (BLOCK_BYTES - 1):
            return None
        return self._engine.read_chunks_later(self.layer(), offset // BLOCK_BYTES, length // BLOCK_BYTES)

    def extents(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Holes in whole blocks; at most a bounded amount of work, so that the loop is never held up."""
        try:
            return self._extents(offset, length)
        except DamagedExtent as exc:
            self._engine.report(exc.digest)
            raise

    def _extents(self, offset: int, length: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        block = offset // BLOCK_BYTES
        end = min(-(-(offset + length) // BLOCK_BYTES), block + EXTENT_BLOCKS_MAX)
        looks = 0
        while block < end and looks < EXTENT_LOOKS_MAX:
            stop = min(end, ((block >> SHARD_BITS) + 1) << SHARD_BITS)
            if _untouched(self.layer(), block):
                _add_extent(found, stop - block, STATE_HOLE_ZERO)
                looks += UNTOUCHED_LOOKS
                block = stop
                continue
            for piece in walk(self.layer(), block, stop - block):
                _add_extent(found, piece.blocks, STATE_HOLE_ZERO if piece.kind is Kind.ZEROS else 0)
                block += piece.blocks
                looks += 4 + piece.blocks // (4 if piece.crcs else 16)
                if looks >= EXTENT_LOOKS_MAX:
                    break
        return _in_bytes(found, offset, length)


def _untouched(layer: Layer, block: int) -> bool:
    """Nothing in any content near `block`'s shard and zeros at the bottom: a hole that needs no look at single
    blocks."""
    at: Layer | None = layer
    shard = block >> SHARD_BITS
    while at is not None:
        if at.tree is not None:
            first = (shard << SHARD_BITS) // at.per_chunk
            count = (1 << SHARD_BITS) // at.per_chunk
            stored = -(-at.size_bytes // (at.per_chunk * BLOCK_BYTES))
            return all(at.tree.chunk(c) == bytes(32) for c in range(first, min(first + count, stored)))
        if at.lost or shard in at.content.shards or at.content.zeros or at.content.chunks:
            return False
        at = at.parent
    return True


def _add_extent(found: list[tuple[int, int]], blocks: int, flags: int) -> None:
    if found and found[-1][1] == flags:
        found[-1] = (found[-1][0] + blocks, flags)
    else:
        found.append((blocks, flags))


def _in_bytes(found: list[tuple[int, int]], offset: int, length: int) -> list[tuple[int, int]]:
    """From whole blocks to the asked range."""
    result: list[tuple[int, int]] = []
    at, end = (offset // BLOCK_BYTES) * BLOCK_BYTES, offset + length
    for blocks, flags in found:
        start, at = max(at, offset), at + blocks * BLOCK_BYTES
        stop = min(at, end)
        if stop > start:
            result.append((stop - start, flags))
    return result


class DiskExport(VersionExport):
    """A vDisk as one client opened it. It dies with the generation it was opened at."""

    def __init__(self, engine: FrontEngine, disk: VDisk, unsynced: Unsynced, *, read_only: bool) -> None:
        super().__init__(engine, disk.export_name, engine.layers.get(disk.head), disk.size_bytes, f"vDisk {disk.vdisk}")
        self._disk = disk
        self._unsynced = unsynced
        self._generation = disk.generation
        self._read_only = read_only

    @property
    def vdisk(self) -> str:
        return self._disk.vdisk

    @property
    def read_only(self) -> bool:
        return self._read_only or self._engine.damage is not None

    def layer(self) -> Layer:
        if self._disk.generation != self._generation:
            raise ExportDown(f"{self.name} was taken down: {self._disk.reason}")
        return self._engine.layers.get(self._disk.head)

    def pace(self) -> float:
        return self._engine.pacer.delay()

    @property
    def answers_when_durable(self) -> bool:
        return self._disk.write_through or self._unsynced.is_new(self._disk)

    def _begin(self) -> None:
        """The first write of a disk that was quiet, or one that is refused."""
        if self._engine.damage is not None:
            raise self._engine.damage.error()
        if self._read_only:
            raise ReadOnly(f"{self.name} is read-only")
        if not self._disk.write_through:
            self._unsynced.note(self._disk)

    def write(self, offset: int, data: memoryview) -> None:
        layer = self.layer()
        if not self._disk.unsynced or self._read_only or self._engine.damage is not None:
            self._begin()
        if (offset | len(data)) & (BLOCK_BYTES - 1):
            self._write_unaligned(layer, offset, data)
        else:
            self._engine.stage_write(self._disk.handle, layer, offset, data)

    def _write_unaligned(self, layer: Layer, offset: int, data: Buffer) -> None:
        """Read-modify-write of the edge blocks. What is staged goes first, so that two small writes to a block both
        stay."""
        self._engine.flush_stage()
        first = offset // BLOCK_BYTES
        count = -(-(offset + len(data)) // BLOCK_BYTES) - first
        whole = bytearray(count * BLOCK_BYTES)
        edges = {first, first + count - 1}
        for block in edges:
            at = (block - first) * BLOCK_BYTES
            whole[at : at + BLOCK_BYTES] = b"".join(self._engine.read_blocks(layer, block, 1))
        start = offset - first * BLOCK_BYTES
        whole[start : start + len(data)] = data
        self._engine.stage_write(self._disk.handle, layer, first * BLOCK_BYTES, whole)

    def zero(self, offset: int, length: int, punch: bool) -> None:
        layer = self.layer()
        if not self._disk.unsynced or self._read_only or self._engine.damage is not None:
            self._begin()
        end = offset + length
        first = -(-offset // BLOCK_BYTES)
        # behind the disk's end (which may have moved since this client came) nothing can be lost
        last = -(-end // BLOCK_BYTES) if end == self._disk.size_bytes else end // BLOCK_BYTES
        if first >= last:
            self._write_unaligned(layer, offset, bytes(length))
            return
        if offset < first * BLOCK_BYTES:
            self._write_unaligned(layer, offset, bytes(first * BLOCK_BYTES - offset))
        if last * BLOCK_BYTES < end:
            self._write_unaligned(layer, last * BLOCK_BYTES, bytes(end - last * BLOCK_BYTES))
        self._engine.stage_zero(self._disk.handle, layer, first, last - first)


@dataclass(slots=True, eq=False)
class _Open:
    conn: ConnInfo
    vdisk: str | None
    read_only: bool


class FrontExports:
    """`stargate.nbd.exports.Exports` over the engine: names, gate, connections."""

    def __init__(self, engine: FrontEngine, *, waits: bool = True) -> None:
        """`waits` False: `commit` raises CommitLater instead of waiting for the disk."""
        self._engine = engine
        self._waits = waits
        self._started = engine.clock.monotonic()
        self._open: dict[int, _Open] = {}
        self.gates: dict[str, tuple[str, str]] = {}  # vdisk -> (open | readonly, reason)
        self.durable_fd = engine.wake_fd
        self.unsynced = Unsynced(engine)

    def lookup(self, name: str) -> Export:
        if name.startswith("snapshot:"):
            return self._snapshot(name)
        for disk in self._engine.state.vdisks.values():
            if name in (disk.export_name, disk.vdisk):
                return self._disk(disk)
        raise NotFound(f"no disk is named {name!r}; see the console's inventory for NBD addresses")

    def _disk(self, disk: VDisk) -> Export:
        if disk.role == "down":
            raise ExportDown(f"{disk.export_name} is down: {disk.reason or 'no reason was given'}")
        if disk.reopen:
            raise ExportDown(f"{disk.export_name} is down: {disk.reopen}")
        damage = self._engine.damage
        if damage is not None and damage.heads_lost:
            return LostHead(disk, damage)
        return DiskExport(
            self._engine, disk, self.unsynced, read_only=disk.role != "active" or self.gate_of(disk)[0] != "open"
        )

    def _snapshot(self, name: str) -> Export:
        _, _, rest = name.partition(":")
        snapshot_id, _, disk_id = rest.partition(":")
        snapshot = self._engine.state.snapshots.get(snapshot_id)
        for member in snapshot.members if snapshot else ():
            if member.disk == disk_id:
                layer = self._engine.layers.get(member.epoch)
                return VersionExport(self._engine, name, layer, member.size_bytes, f"snapshot {snapshot_id}")
        raise NotFound(f"no such snapshot disk: {name!r}")

    def gate_of(self, disk: VDisk) -> tuple[str, str]:
        """(`open` or `readonly`, reason): the stale-site rule. With no answer it opens by itself after
        `GATE_SECONDS`."""
        if disk.vdisk in self.gates:
            return self.gates[disk.vdisk]
        if disk.gated and self._engine.clock.monotonic() - self._started < GATE_SECONDS:
            return "readonly", "this site has just started and has not yet asked its peers"
        return "open", ""

    def names(self) -> list[str]:
        return sorted(d.export_name for d in self._engine.state.vdisks.values() if d.role != "down" and not d.reopen)

    def commit(self) -> int:
        return self._engine.append_staged(wait=self._waits)

    def committed(self) -> None:
        self._engine.place()

    def durable(self) -> int:
        return self._engine.log.durable.position

    def request_sync(self, position: int) -> None:
        self._engine.request_sync(position)

    def sync_alone(self) -> bool:
        return self._engine.sync.sync_here()

    def synced_alone(self) -> None:
        self._engine.log.note()

    def sync_error(self) -> StargateError | None:
        return self._engine.sync.error

    def opened(self, conn: ConnInfo, export: Export) -> None:
        vdisk = export.vdisk if isinstance(export, DiskExport | LostHead) else None
        self._open[conn.number] = _Open(conn, vdisk, export.read_only)

    def closed(self, conn: ConnInfo) -> None:
        self._open.pop(conn.number, None)

    def tidy(self) -> None:
        """In the loop, once in a while."""
        self.unsynced.tidy(self._counts)

    def _counts(self, vdisk: str) -> object:
        return [(n, o.conn.writes, o.conn.written_bytes) for n, o in self._open.items() if o.vdisk == vdisk]

    def connections(self, vdisk: str) -> list[dict[str, object]]:
        return [
            {
                "number": o.conn.number,
                "peer": o.conn.peer,
                "since": o.conn.since,
                "writes": o.conn.writes,
                "read_only": o.read_only,
            }
            for o in self._open.values()
            if o.vdisk == vdisk
        ]

    def writers(self, vdisks: Sequence[str]) -> list[str]:
        """Clients that have one of `vdisks` open for writing."""
        return [o.conn.peer for o in self._open.values() if o.vdisk in vdisks and not o.read_only]

    def numbers(self, vdisks: Sequence[str], *, writers_only: bool = False) -> set[int]:
        """Connection numbers to disconnect."""
        return {n for n, o in self._open.items() if o.vdisk in vdisks and not (writers_only and o.read_only)}


__all__ = ["GATE_SECONDS", "ZEROS", "DiskExport", "FrontExports", "VersionExport"]
