# SPDX-License-Identifier: Apache-2.0
"""N8: a file system on an export, by way of nbdfuse and a loop device."""

from __future__ import annotations

import hashlib

from stargate.units import MiB
from tests.conformance.kit import Bench, Check, demand, run
from tests.support.foreign import mounted, nbdfuse

SIZE = 256 * MiB


def ext4(bench: Bench) -> None:
    """Made, filled, unmounted, checked; again after the engine was killed; and as of a snapshot."""
    vdisk = bench.site.disk(SIZE, "check-ext4")
    rng = bench.rng("ext4")
    files = {f"f{number}": rng.randbytes(rng.randrange(1, 3 * MiB)) for number in range(30)}
    with nbdfuse(bench.uri("check-ext4"), bench.folder / "fuse") as device:
        run("mkfs.ext4", "-q", "-F", device)
        with mounted(device, bench.folder / "fs") as folder:
            for name, data in files.items():
                (folder / name).write_bytes(data)
        run("e2fsck", "-fn", device)
    snapshot = bench.site.snapshot(vdisk)
    bench.site.restart()
    for export in ("check-ext4", f"snapshot:{snapshot}:{vdisk}"):
        copy = bench.file("fs.raw")
        run("nbdcopy", bench.uri(export), copy)
        run("e2fsck", "-fn", copy)
        with mounted(copy, bench.folder / "fs") as folder:
            wrong = [name for name, data in files.items() if _sha((folder / name).read_bytes()) != _sha(data)]
        demand(not wrong, f"{export}: other content in {wrong}")
    bench.site.engine.snapshot_delete(snapshot)
    bench.site.engine.vdisk_delete(vdisk)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


CHECKS = [
    Check(
        "N8", "ext4 through nbdfuse", ext4, ("nbdfuse", "fusermount3", "mkfs.ext4", "e2fsck", "mount", "nbdcopy"), True
    )
]
