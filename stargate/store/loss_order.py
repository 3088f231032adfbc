# SPDX-License-Identifier: Apache-2.0
"""`python -m stargate accept-loss`: says what would be lost and, with `--yes`, does it (stargate.store.accept_loss)."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from stargate.clock import SystemClock
from stargate.errors import InvalidArgument, StargateError
from stargate.extents.index import LmdbIndex
from stargate.extents.store import ExtentStore
from stargate.fs.disk import OsDisk
from stargate.store.accept_loss import DOWN, Plan, carry_out, plan
from stargate.store.hub import CatalogHub
from stargate.store.worker import Worker


def accept_loss(data: Path, choice: str, disks: Iterable[str], *, really: bool) -> int:
    """Exit code 0 when it was done, 1 when it was refused, 2 when it was only told."""
    disk = OsDisk(data / "stargate")
    try:
        chosen = dict(_pair(item) for item in disks)
        what = _carry_out(disk, data, choice, chosen) if really else plan(disk, choice, chosen)
    except (StargateError, OSError) as exc:
        print(f"accept-loss: {exc.message if isinstance(exc, StargateError) else exc}", file=sys.stderr)
        return 1
    print("an earlier order was finished; start the engine" if what is None else _text(what, done=really))
    return 0 if really else 2


def _pair(item: str) -> tuple[str, str]:
    vdisk, sign, choice = item.partition("=")
    if not sign or not choice:
        raise InvalidArgument(f"--disk takes VDISK=CHOICE, not {item!r}")
    return vdisk, choice


def _carry_out(disk: OsDisk, data: Path, choice: str, chosen: dict[str, str]) -> Plan | None:
    hub = CatalogHub(disk)
    roots = [bytes.fromhex(e.root) for e in hub.state.epochs.values() if e.root is not None]
    extents = ExtentStore(disk, LmdbIndex(data / "stargate" / "index"), writable=True, roots=roots)
    try:
        worker = Worker(disk, hub, extents, lambda: None)
        return carry_out(disk, hub, worker, SystemClock(), choice, chosen)
    finally:
        extents.close()
        hub.close()


def _text(what: Plan, *, done: bool) -> str:
    lines = [
        what.reason,
        f"Lost: every change behind log position {what.position}, whether or not a guest was told that it was stored,",
        "and every snapshot, clone, restore and deletion ordered behind it. Snapshots before it stay.",
    ]
    for fate in what.fates:
        back = f"as in snapshot {fate.snapshot}" if fate.snapshot else "as before the damage"
        lines.append(f"  {fate.export_name} ({fate.vdisk}): {'down' if fate.role == DOWN else f'{fate.role}, {back}'}")
    if done:
        lines.append(f"All disks as they were before the damage are in snapshot {what.safety}." if what.safety else "")
        lines.append("The damaged log was kept in a folder oplog-damaged-*. Start the engine.")
    else:
        lines.append("Nothing was changed yet; order it with --yes.")
    return "\n".join(line for line in lines if line)
