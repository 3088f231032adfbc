# SPDX-License-Identifier: Apache-2.0
"""Which vDisks may have acknowledged what is not durable yet (design note 0007, Host death).

The log itself knows: op `unsynced` goes ahead of the first write of a vDisk that was quiet, and the writes until it is
durable are answered like writes with FUA; op `synced` follows when the disk was quiet for a while and all it wrote is
durable. In between nothing is done per write. A vDisk that is `unsynced` when the machine starts anew asks for an
explicit re-open: a client that comes back by itself would not know that what it was told was stored is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from stargate.catalog.state import Op, VDisk
from stargate.errors import StargateError
from stargate.front.engine import FrontEngine

log = logging.getLogger(__name__)

TIDY_SECONDS = 1.0
"""How often quiet disks are looked for. One that writes more rarely waits for one fdatasync each time it begins."""

REASON = "this machine died while writes were acknowledged and not yet stored; re-open the disk when its guest is down"

Counts = Callable[[str], object]
"""vDisk -> something that changes with every write of its clients."""


class Unsynced:
    """In the loop's thread, between batches or inside one."""

    def __init__(self, engine: FrontEngine) -> None:
        self._engine = engine
        self._new: dict[str, int] = {}
        self._seen: dict[str, tuple[object, int]] = {}

    def note(self, disk: VDisk) -> None:
        """Before a write is staged for a quiet disk. Raises what the log raises; then that write is refused."""
        engine = self._engine
        engine.flush_stage()
        position = engine.append_ops([{"op": "unsynced", "vdisks": [disk.vdisk]}])
        self._new[disk.vdisk] = position
        engine.request_sync(position)

    def is_new(self, disk: VDisk) -> bool:
        """The note is not durable yet: no write may be answered that is not."""
        if disk.vdisk not in self._new:
            return False
        if self._new[disk.vdisk] > self._engine.log.durable.position:
            return True
        del self._new[disk.vdisk]
        return False

    def tidy(self, counts: Counts) -> None:
        """Note as synced what was quiet since the last call and has nothing undurable."""
        engine, quiet, seen = self._engine, [], self._seen
        self._seen = {}
        for disk in engine.state.vdisks.values():
            if not disk.unsynced:
                continue
            now = counts(disk.vdisk)
            before, position = seen.get(disk.vdisk, (None, 0))
            if before != now:
                self._seen[disk.vdisk] = now, engine.log.appended.position
            elif position <= engine.log.durable.position:
                quiet.append(disk.vdisk)
            else:
                self._seen[disk.vdisk] = before, position
        self._synced(quiet)

    def _synced(self, quiet: list[str]) -> None:
        if not quiet or self._engine.damage is not None:
            return
        try:
            self._engine.append_ops([{"op": "synced", "vdisks": quiet}])
        except StargateError as exc:
            log.debug("not noted as synced: %s", exc.message)

    def close(self) -> None:
        """An orderly stop, after the last client: nothing is left that a crash could take."""
        try:
            self._engine.log.sync()
            self._synced([d.vdisk for d in self._engine.state.vdisks.values() if d.unsynced])
            self._engine.log.sync()
        except StargateError as exc:
            log.error("the log cannot be synced at the end: %s", exc.message)


def note_boot(engine: FrontEngine, boot_id: str, now: float) -> list[str]:
    """After a start, before anything is served: the vDisks that must be opened anew. `boot_id` "": unknown."""
    state = engine.state
    if engine.damage is not None or (boot_id and boot_id == state.boot_id):
        return []
    suspects = [d.vdisk for d in state.vdisks.values() if d.unsynced and not d.write_through]
    if boot_id != state.boot_id or suspects:
        op: Op = {"op": "boot", "boot_id": boot_id, "suspects": suspects, "reason": REASON, "at": now}
        engine.append_ops([op])
    for vdisk in suspects:
        log.warning("vDisk %s: %s", vdisk, REASON)
    return suspects
