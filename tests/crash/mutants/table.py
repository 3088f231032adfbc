# SPDX-License-Identifier: Apache-2.0
"""The mutants: one broken rule each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stargate.content import EpochContent
from stargate.front.layers import HOT_BIT, POSITION_SHIFT
from stargate.oplog import reader
from stargate.oplog.format import BATCH, CONTROL, parse_batch_header
from tests.crash.mutants.breaking import Mutant, instead, together, without

HALVES = "tests/engine/test_halves.py::"
SWEEP = "tests/extents/test_sweep.py::"
OPLOG = "tests/oplog/test_oplog_crash.py::"
STALE = "tests/crash/test_stale.py::"


def constant(value: Any) -> Any:
    """A function that gives `value` whatever it is asked."""
    return lambda real: lambda *args, **more: value


def constant_value(value: Any) -> Any:
    return lambda real: value


# -- a forgotten fsync ------------------------------------------------------------------------------------------------

FSYNCS = (
    ("log sync", "FLUSH waits for fdatasync", "fdatasync", "oplog.log:OpLog.sync"),
    ("segment roll", "segment n is durable before n+1 is used", "fdatasync", "oplog.log:OpLog._seal"),
    ("new slot's name", "a slot's name is durable before it is used", "sync_dir", "oplog.slots:SlotPool._make"),
    ("log creation", "the log's names are durable before it is used", "sync_dir", "oplog.log:OpLog.create"),
    ("superblock", "the incarnation is raised durably first", "fdatasync", "oplog.superblock:store_copy"),
    ("catalog commit", "a frame is durable before it counts", "fdatasync", "catalog.log:CatalogLog.append"),
    ("checkpoint bytes", "a checkpoint is durable before its rename", "fdatasync", "catalog.log:CatalogLog.checkpoint"),
    ("checkpoint name", "its name is durable before the old goes", "sync_dir", "catalog.log:CatalogLog.checkpoint"),
    ("egroup bytes", "extents are durable before the index has them", "fdatasync", "extents.appender:Appender.sync"),
    ("egroup name", "an egroup's name is durable before that, too", "sync_dir", "extents.appender:Appender.sync"),
    ("hot batch", "hot bytes are durable before the catalog names them", "fdatasync", "hot.regions:HotWriter.sync"),
    ("region name", "a region's name is durable before that, too", "sync_dir", "hot.regions:HotWriter._begin"),
)


# -- the log ----------------------------------------------------------------------------------------------------------


def incarnation_stays(real: Any) -> Any:
    """Every start writes under the first incarnation."""
    return lambda *args: real(*args)._replace(incarnation=0)


def no_segment_index(real: Any) -> Any:
    return lambda log_id, incarnation, index: real(log_id, incarnation, 0)


def any_predecessor(real: Any) -> Any:
    """A batch is taken whatever came before it."""

    def batch(self: Any, file: Any, offset: int) -> Any:
        found = reader.read_batch_header(self._info, file, self.index, offset)
        if found is not None:
            self.mark = self.mark._replace(crc=found[0].previous_crc, seq=found[0].seq - 1)
        return real(self, file, offset)

    return batch


def any_place(real: Any) -> Any:
    """A batch is taken wherever its header says that it belongs."""

    def read(info: Any, file: Any, index: int, offset: int) -> Any:
        raw = file.pread(BATCH.size, offset)
        header = parse_batch_header(raw, 0, info.segment_bytes - offset)
        if header is None:
            return None
        moved = real(info, file, header.position // info.segment_bytes, offset)
        return moved and (moved[0]._replace(position=index * info.segment_bytes + offset), moved[1])

    return read


def tail_unchecked(real: Any) -> Any:
    """Recovery takes a batch for whole by its header alone."""

    def make(self: Any, info: Any, lookup: Any, start: Any, *, verify_above: int | None) -> None:
        real(self, info, lookup, start, verify_above=None)

    return make


def believes_appended(real: Any) -> Any:
    """What was appended is called durable."""
    return property(lambda self: self._appended)


def releases_undrained(real: Any) -> Any:
    """A segment is given back when it is durable, not when it is drained."""

    def sync(self: Any) -> int:
        position: int = real(self)
        self.release(position)
        return position

    return sync


def freezes_not(real: Any) -> Any:
    """After a failed fsync the next one is believed."""

    def freeze(self: Any, what: str, exc: OSError | None) -> Any:
        error = real(self, what, exc)
        self._frozen = None
        return error

    return freeze


# -- catalog, drain, fold ---------------------------------------------------------------------------------------------


def crosses_markers(real: Any) -> Any:
    """A window's control records are applied after its writes."""

    def collect(state: Any, start: Any, batches: Iterable[Any], copying: Any = None) -> Any:
        whole = list(batches)
        if not whole:
            return real(state, start, whole, copying)
        records = [record for batch in whole for record in batch.records]
        late = [record for record in records if record.type == CONTROL]
        first = [record for record in records if record.type != CONTROL]
        return real(state, start, [whole[-1]._replace(records=first + late)], copying)

    return collect


def names_before_bytes(real: Any) -> Any:
    """The drain commits, then flushes."""

    def window(self: Any, covered: Any) -> Any:
        extents, flush = self._extents, type(self._extents).flush
        extents.flush = lambda: None
        try:
            worked = real(self, covered)
        finally:
            del extents.flush
        flush(extents)
        return worked

    return window


def root_before_nodes(real: Any) -> Any:
    """The fold commits, then flushes."""

    def turn(self: Any) -> bool:
        extents, flush = self._extents, type(self._extents).flush
        extents.flush = lambda: None
        try:
            worked: bool = real(self)
        finally:
            del extents.flush
        flush(extents)
        return worked

    return turn


def overwrites_dead_tails(real: Any) -> Any:
    return lambda self: None


def no_compare_and_set(real: Any) -> Any:
    """A window is published though another one was meanwhile."""

    def window(self: Any, covered: Any) -> Any:
        kept = self._covered
        self._covered = lambda: covered
        try:
            return real(self, covered)
        finally:
            self._covered = kept

    return window


# -- front and store --------------------------------------------------------------------------------------------------


def at_once(real: Any) -> Any:
    """What the front may still read is given back at once."""
    return lambda self, n, action: action()


def swaps_blindly(real: Any) -> Any:
    """A drained block takes the place of whatever the map holds by now."""

    def swap(content: EpochContent, table: Any, covered: int) -> Iterator[None]:
        rows = zip(table.blocks.tolist(), table.positions.tolist(), table.crcs.tolist(), strict=True)
        for block, position, crc in rows:
            content.write(block, position << POSITION_SHIFT | HOT_BIT | crc)
        yield from real(content, table, covered)

    return swap


# -- extents ----------------------------------------------------------------------------------------------------------


def unstamped(real: Any) -> Any:
    """A sweep looks at no stamp."""
    return lambda self, epoch: 1 << 31


def children_later(real: Any) -> Any:
    """A node is taken before its children."""
    return lambda self, kind, payload, base: None


def torn_extents(real: Any) -> Any:
    """A rebuild enters what has a good header."""

    def checked(files: Any, location: Any, header: Any) -> bytes | None:
        plain: bytes | None = real(files, location, header)
        return plain if plain is not None else b"" if header.kind == 0 else None

    return checked


def halves_rebuilt(real: Any) -> Any:
    """A rebuild enters nodes whose children are missing."""

    def enter(index: Any, waiting: Any) -> None:
        from stargate.extents.index import Change

        index.commit(Change(puts=[(digest, node.location) for digest, node in waiting.items()]))

    return enter


def publishes_halves(real: Any) -> Any:
    """A snapshot is published though a root is missing."""

    def publish(self: Any, grant: Any, members: Any, manifest: Any) -> None:
        self._book.publish(grant, members, manifest)

    return publish


LOG = (
    Mutant("no fdatasync: recovered tail", "what recovery accepted is durable before it counts",
           without("fdatasync", "stargate.oplog.recovery:settle"),
           OPLOG + "test_it_makes_recovered_batches_truly_durable_after_a_failed_fdatasync"),
    Mutant("CRC without incarnation", "a batch of an earlier start continues no later one",
           instead("stargate.oplog.log:recover", incarnation_stays),
           STALE + "test_a_repeated_write_does_not_bring_back_what_followed_it_before_the_crash"),
    Mutant("CRC without previous CRC", "a batch continues only the one it was written after",
           instead("stargate.oplog.reader:Cursor._batch", any_predecessor),
           OPLOG + "test_it_does_not_accept_a_batch_that_follows_another_one"),
    Mutant("stale segment accepted", "a recycled segment's old batches are never accepted",
           together(instead("stargate.oplog.reader:Cursor._batch", any_predecessor),
                    instead("stargate.oplog.format:segment_seed", no_segment_index),
                    instead("stargate.oplog.reader:read_batch_header", any_place))),
    Mutant("tail unchecked", "a batch that may be torn counts only when its payload is whole",
           instead("stargate.oplog.reader:Cursor.__init__", tail_unchecked)),
    Mutant("appended called durable", "only durable records are drained and promised",
           instead("stargate.oplog.log:OpLog.durable", believes_appended)),
    Mutant("release before drain", "a segment is free only when drained and acknowledged",
           instead("stargate.oplog.log:OpLog.sync", releases_undrained)),
    Mutant("fsync retried", "a failed fsync freezes the log for ever (D3)",
           instead("stargate.oplog.log:OpLog._freeze", freezes_not),
           OPLOG + "test_it_freezes_for_ever_after_a_failed_fdatasync"),
)  # fmt: skip

STORE = (
    Mutant("no fdatasync: rebuild", "bytes are durable before a rebuilt index names them",
           without("fdatasync", "stargate.extents.rebuild:rebuild_files"),
           STALE + "test_a_rebuilt_index_names_no_bytes_that_a_power_cut_may_take"),
    Mutant("drain crosses a marker", "what was written after a marker is not in its snapshot",
           instead("stargate.store.drain:collect", crosses_markers)),
    Mutant("drained before flush", "chunks are indexed before the catalog names them",
           instead("stargate.store.worker:Worker._drain_window", names_before_bytes)),
    Mutant("rooted before flush", "nodes are indexed before the catalog names their root",
           instead("stargate.store.worker:Worker._fold_turn", root_before_nodes)),
    Mutant("publish without compare-and-set", "a window counts only on what it was made from",
           instead("stargate.store.worker:Worker._drain_window", no_compare_and_set),
           STALE + "test_a_window_is_not_published_twice"),
    Mutant("stale store commits", "who lost the folder commits nothing",
           instead("stargate.catalog.ownership:Ownership.check", constant(None)),
           STALE + "test_a_store_that_was_taken_over_commits_nothing"),
    Mutant("tails overwritten", "a restarted store writes over nothing that a front may read",
           instead("stargate.hot.regions:HotWriter._keep_what_was_written", overwrites_dead_tails),
           HALVES + "test_a_restarted_store_writes_over_no_dead_batch_that_a_front_behind_may_read"),
    Mutant("freed before the ack", "regions and extents are free only when the front let go",
           instead("stargate.store.hub:CatalogHub.after_ack", at_once),
           HALVES + "test_it_reuses_no_region_that_a_front_behind_may_read"),
    Mutant("swap without look", "a drained block replaces only the record it came from",
           instead("stargate.front.link:swap", swaps_blindly),
           HALVES + "test_a_drained_block_replaces_only_the_record_it_came_from"),
    Mutant("sweep beside the front", "a sweep waits until the front has applied what it looked at",
           instead("stargate.store.hub:CatalogHub.wait_acked", constant(True)),
           HALVES + "test_a_sweep_waits_for_a_front_that_is_behind"),
    Mutant("sweep without stamp", "what an open ingest put or asked for is kept",
           instead("stargate.extents.store:ExtentStore.cut", unstamped),
           SWEEP + "test_it_keeps_what_an_open_ingest_put_before_the_sweep_began"),
    Mutant("presence before children", "a node is stored after its children",
           instead("stargate.extents.store:ExtentStore._check_children", children_later),
           "tests/extents/test_tree.py::test_it_accepts_no_node_without_its_children"),
    Mutant("publish of halves", "a snapshot is visible only when complete (D5)",
           instead("stargate.peer.ingest:StoreIngest.publish", publishes_halves)),
    Mutant("retire without look", "a group is removed only when nothing is in it",
           instead("stargate.extents.egroups:EgroupFiles.is_empty", constant(True)),
           "tests/extents/test_retire.py::test_it_keeps_what_holds_bytes_although_the_index_names_nothing_there"),
    Mutant("holes in the air", "holes are durable before their ranges are forgotten",
           instead("stargate.extents.sweep:_sync", constant(None)),
           "tests/extents/test_retire.py::test_it_goes_on_after_a_power_cut_at_every_call"),
    Mutant("rebuild of torn extents", "a rebuild enters whole extents only",
           instead("stargate.extents.rebuild:_checked", torn_extents),
           SWEEP + "test_it_rebuilds_around_damage_and_torn_tails"),
    Mutant("rebuild of halves", "a rebuild enters complete subtrees only",
           instead("stargate.extents.rebuild:_enter_nodes", halves_rebuilt),
           SWEEP + "test_it_does_not_enter_a_node_whose_chunk_is_damaged"),
    Mutant("volatile index", "index transactions are durable in their order",
           instead("tests.crash.medium:WatchedIndex.durable", constant_value(False))),
)  # fmt: skip

MUTANTS = (
    *(Mutant(f"no {call}: {name}", rule, without(call, f"stargate.{where}")) for name, rule, call, where in FSYNCS),
    *LOG,
    *STORE,
)
