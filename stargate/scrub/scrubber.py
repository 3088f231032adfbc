# SPDX-License-Identifier: Apache-2.0
"""The scrub: reads all stored data again and again, what was not looked at for longest first, and has damage healed.

A thread of the store process, paced in bytes per second. See docs/design/0006.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Protocol

from stargate.catalog.state import BatchRef, State
from stargate.clock import Clock
from stargate.content import EpochContent
from stargate.errors import DamagedData
from stargate.extents.egroups import HEAD_BYTES, parse_head
from stargate.extents.format import ZERO_HASH
from stargate.extents.index import Location
from stargate.extents.store import ExtentStore
from stargate.fs.disk import Disk
from stargate.hot.format import HotTable
from stargate.hot.regions import HotReader
from stargate.hot.tables import damaged_copy, restore_head
from stargate.oplog.format import LogMark
from stargate.oplog.reader import LogRangeGone, LogReader
from stargate.scrub import checks
from stargate.scrub.checks import Found
from stargate.scrub.dates import Dates
from stargate.scrub.heal import Healer, Outcome, Source
from stargate.store.fold import SHIFT, content_of
from stargate.store.hub import CatalogHub
from stargate.units import MiB

log = logging.getLogger(__name__)

PASS_SECONDS = 7 * 86400.0
"""A part is read again after this."""

SHORT_SECONDS = 3600.0
"""The same for the log and the catalog, which change all the time. What is new waits as long: it would be read from
memory, not from the medium, while guests are busy with it.
"""

BYTES_PER_SECOND = 24 * MiB
LOOK_SECONDS = 10.0
EGROUPS_AT_ONCE = 64
"""Egroups whose index entries are collected by one walk over the index (some 200 bytes an entry in memory)."""


class Background(Protocol):
    """What the scrub needs of drain and fold (`stargate.store.worker.Worker`)."""

    def durable_log(self) -> tuple[LogReader, LogMark, int] | None:
        """Reader, covered mark and durable position; None while there is no log."""
        ...

    def poisoned(self) -> dict[str, str]:
        """Epochs that cannot be folded for damage: why."""
        ...

    def healed(self) -> None:
        """What could not be folded may be foldable now."""
        ...


class Scrubber:
    """`step` checks one part. Owns the dates and the healer."""

    def __init__(
        self,
        disk: Disk,
        hub: CatalogHub,
        extents: ExtentStore,
        worker: Background,
        read_table: Callable[[BatchRef], HotTable],
        sources: Callable[[], list[Source]],
        clock: Clock,
        bytes_per_second: float = BYTES_PER_SECOND,
    ) -> None:
        self._disk = disk
        self._hub = hub
        self._extents = extents
        self._worker = worker
        self._read_table = read_table
        self._clock = clock
        self._rate = bytes_per_second
        self._turn = threading.Lock()
        """One check at a time."""
        self._guard = threading.Lock()
        """The dates; held for moments only."""
        self._entries: dict[int, list[tuple[bytes, Location]]] = {}
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self.dates = Dates(disk, clock)
        self.healer = Healer(extents, self._roots, self._named_chunks, sources, self._told, clock)
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)

    # -- the thread

    def start(self) -> None:
        self.healer.start()
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._wake.set()
        self.healer.stop()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
            try:
                while self._due() and not self._stopped.is_set():
                    self.step()
            except Exception:  # nobody would miss a thread that ended
                log.exception("the scrub met an error; it goes on")

    def _due(self) -> bool:
        name = self._oldest()
        if name is None:
            return False
        if self.dates.state.asked:
            return True
        unit = self.dates.state.units[name]
        wait = (
            SHORT_SECONDS
            if not unit.checked_at or unit.failed_at > unit.checked_at or name in ("log", "catalog")
            else PASS_SECONDS
        )
        return self._clock.now() - unit.tried_at > wait

    def _pause(self, read_bytes: int) -> None:
        if self._rate:
            self._stopped.wait(read_bytes / self._rate)

    # -- checking

    def _units(self) -> list[str]:
        names = [f"egroup:{number}" for number in self._extents.files.numbers()]
        names += [f"region:{number}" for number in sorted(self._refs())]
        return [*names, "index", "log", "catalog"]

    def _state(self) -> State:
        return self._hub.state

    def _refs(self) -> dict[int, list[BatchRef]]:
        found: dict[int, list[BatchRef]] = {}
        with self._hub.lock:
            for epoch in self._state().epochs.values():
                for ref in epoch.batches:
                    found.setdefault(ref.region, []).append(ref)
        return found

    def _roots(self) -> list[bytes]:
        with self._hub.lock:
            return self._state().roots()

    def _named_chunks(self) -> Iterator[bytes]:
        """Chunks that hot tables name; no tree does yet."""
        for refs in self._refs().values():
            for ref in refs:
                try:
                    yield from (digest for _, digest in self._read_table(ref).chunks if digest != ZERO_HASH)
                except DamagedData:
                    continue  # found by the check of its region

    def _oldest(self) -> str | None:
        units = self._units()
        with self._guard:
            self.dates.follow(units)
            return self.dates.oldest()

    def step(self) -> str | None:
        """Check the part whose turn it is; its name."""
        with self._turn:
            name = self._oldest()
            if name is not None:
                self._try(name)
            return name

    def ask(self) -> dict[str, Any]:
        """Have everything checked now by the scrub's own thread, at its pace; the health. Durable. Asked again while it
        goes on, it begins anew.
        """
        units = self._units()
        with self._guard:
            self.dates.follow(units)
            self.dates.ask()
            self.dates.save()
        self._wake.set()
        return self.health()

    def run_pass(self) -> dict[str, Any]:
        """Check everything now; the health after it."""
        with self._turn:
            self._entries.clear()
            self._oldest()
            for name in sorted(self.dates.state.units):
                self._try(name)
        return self.health()

    def _try(self, name: str) -> None:
        """Check a part. One that cannot be checked is told of and stands back: the others have their turn."""
        try:
            self._check(name)
        except Exception as exc:
            log.exception("the scrub could not check %s", name)
            with self._guard:
                self.dates.failed(name, f"{type(exc).__name__} {exc}".strip())
                self.dates.save()

    def _check(self, name: str) -> None:
        kind, _, number = name.partition(":")
        if kind == "egroup":
            self._restore_egroup(int(number))
            found = checks.egroup(self._extents, self._entries_of(int(number)), self._pause)
        elif kind == "region":
            refs = self._refs().get(int(number), [])
            found = self._still_live(self._region(refs), refs)
        elif kind == "index":
            self.healer.review()
            found = checks.index(self._extents, self._roots(), self._named_chunks(), self._pause)
        elif kind == "log":
            found = self._log()
        else:
            found = self._catalog()
        self._settle(name, found)

    def _settle(self, name: str, found: Found) -> None:
        """Have healed what can be, and write down the rest."""
        wanted = {digest for key in found if (digest := checks.digest_of(key)) is not None}
        with self._guard:
            self.dates.checked(name, found)
            self.dates.save()
        if wanted:
            self.healer.heal(wanted)

    def _restore_egroup(self, number: int) -> None:
        """All that the header of an egroup says is known: a damaged one is written anew."""
        try:
            parse_head(self._extents.files.read(number, 0, HEAD_BYTES), number)
        except DamagedData as exc:
            log.warning("%s: it was written anew", exc.message)
            with self._extents.lock:
                self._extents.files.restore_head(number, self._extents.store_id)
            with self._guard:
                self.dates.state.healed += 1

    def _restore_table(self, ref: BatchRef) -> None:
        """Both copies of a table must be whole. Under the hub's lock no region is given free."""
        try:
            if damaged_copy(self._disk, "hot", ref) is None:
                return
            with self._hub.lock:
                live = any(ref in epoch.batches for epoch in self._state().epochs.values())
                restored = live and restore_head(self._disk, "hot", ref)
        except DamagedData:
            return  # the check of the region says so
        if restored:
            log.warning("one of the two tables of batch %s was damaged and was written anew", ref)
            with self._guard:
                self.dates.state.healed += 1

    def _log(self) -> Found:
        try:
            at = self._worker.durable_log()
        except DamagedData as exc:
            return {"log": f"The log is damaged: {exc.message}."}
        if at is None:
            return {}
        try:
            return checks.superblock(self._disk) | checks.log(*at, self._pause)
        except LogRangeGone as exc:
            now = self._worker.durable_log()
            if now is None:
                return {}
            now[0].close()
            # Still to be drained, hence not released by anybody.
            return {"log": f"A segment of the log is gone: {exc.message}."} if now[1] == at[1] else {}
        finally:
            at[0].close()

    def _region(self, refs: list[BatchRef]) -> Found:
        for ref in refs:
            self._restore_table(ref)
        reader = HotReader(self._disk, "hot")
        try:
            return checks.region(reader, refs, self._read_table, self._pause)
        finally:
            reader.close()

    def _still_live(self, found: Found, refs: Iterable[BatchRef]) -> Found:
        """A region that was given free and written anew meanwhile was not damaged."""
        if not found:
            return found
        now = {ref for some in self._refs().values() for ref in some}
        return self._needed(found) if all(ref in now for ref in refs) else {}

    def _needed(self, found: Found) -> Found:
        """Without the blocks over which the same epoch has a newer one: nobody reads these."""
        contents: dict[str, EpochContent] = {}
        needed: Found = {}
        for key, what in found.items():
            if key.startswith(checks.HOT):
                _, epoch, block, position = key.split(":")
                with self._hub.lock:
                    known = self._state().epochs.get(epoch)
                if known is None:
                    continue
                if epoch not in contents:
                    with suppress(DamagedData):
                        contents[epoch] = content_of([known], self._read_table)
                value = contents[epoch].get(int(block)) if epoch in contents else None
                if epoch in contents and (value is None or value >> SHIFT != int(position)):
                    continue
            needed[key] = what
        return needed

    def _entries_of(self, number: int) -> list[tuple[bytes, Location]]:
        """The index entries of an egroup, in the order of the file. Collected for several egroups at once."""
        if number not in self._entries:
            units = self.dates.state.units
            names = [name for name in units if name.startswith("egroup:")]
            names.sort(key=lambda name: units[name].since)
            near = {int(name[7:]) for name in names[:EGROUPS_AT_ONCE]} | {number}
            self._entries = {n: [] for n in near}
            for digest, location in self._extents.index.items():
                if location.egroup in near:
                    self._entries[location.egroup].append((digest, location))
        return sorted(self._entries.pop(number), key=lambda entry: entry[1].offset)

    def _catalog(self) -> Found:
        """The state is in memory: a damaged file is replaced by a checkpoint of it."""
        found = checks.catalog(self._disk)
        if found:
            self._hub.checkpoint()
            log.warning("the catalog file was damaged and was written anew from memory")
            with self._guard:
                self.dates.state.healed += 1
            found = checks.catalog(self._disk)
        return found

    # -- what is known

    def _told(self, outcome: Outcome) -> None:
        with self._guard:
            self.dates.healed(checks.EXTENT + digest.hex() for digest in outcome.healed)
            self.dates.dropped(checks.EXTENT + digest.hex() for digest in outcome.unneeded)
            for digest in outcome.lost:
                key = checks.EXTENT + digest.hex()
                self.dates.damaged("reader", key, f"A stored extent is damaged and no site gave a copy: {key}.")
            self.dates.save()
        if outcome.healed:
            self._worker.healed()

    def health(self) -> dict[str, Any]:
        """For `usage`, console and alert. Seconds; null = never. `asked_left`: parts that `ask` still waits for."""
        poisoned = self._worker.poisoned()
        with self._guard:
            state, now = self.dates.state, self._clock.now()
            oldest = self.dates.oldest_at()
            return {
                "damaged": len(state.damaged),
                "healed": state.healed,
                "findings": [item.what for item in list(state.damaged.values())[:20]],
                "unfoldable": sorted(poisoned),
                "oldest_unchecked_seconds": None if oldest is None else max(0.0, now - oldest),
                "last_pass_at": state.pass_ended_at or None,
                "parts": len(state.units),
                "asked_left": len(state.asked),
            }
